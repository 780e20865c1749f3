"""Log lines of servers and workers: text for people, or one JSON object a line. No prompt, key or address of a file is logged."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from phonofilm.untrusted import printable

# What is for whoever waits for the clip, where a server's log is read by others: words of the prompt, and names of files.
QUOTING = {"phonofilm.generation.known_prompts": logging.ERROR, "phonofilm.lora.reading": logging.WARNING}
FIELDS = ("request_id", "method", "route", "status", "milliseconds", "key")


class JsonLines(logging.Formatter):
    """One object a line, with the fields that a request's line carries."""

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        content |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content)


class TextLines(logging.Formatter):
    """A line for a person; what could move the cursor or begin a new line is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{at} {record.levelname.lower():7} {printable(record.getMessage()).replace(chr(10), ' ')}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def log_to_stderr(as_json: bool) -> None:
    """Send this process's log to standard error, from INFO up; libraries only their warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("phonofilm").setLevel(logging.INFO)
    for name, level in QUOTING.items():
        logging.getLogger(name).setLevel(level)
