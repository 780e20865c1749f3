"""Files, JSON and numbers that come from elsewhere, taken within bounds. What they mean is for the callers.

Nothing here waits on a pipe, follows a nesting without end or computes a number with a billion digits.
"""

from __future__ import annotations

import json
import math
import re
import stat
from fractions import Fraction
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError

# A vocabulary of 250,000 words with their scores is 17 MB.
MAX_JSON_BYTES = 32 * 2**20
MAX_JSON_DEPTH = 64
# Tokenizers write "no limit" as 10**30; a frame count of that size is for its reader to refuse.
MAX_INTEGER_DIGITS = 40
FOLDER_FAULT = "that is a folder"
PIPE_FAULT = "it is a pipe, a device or a socket, not a file"
_NUMBER = re.compile(r"\s*[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,2}|/\d{1,20})?\s*", re.ASCII)
# C0 and C1 controls but for line breaks and tabs, what turns the direction of writing, and half characters: they can rewrite
# a terminal, or cannot be written to one.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


NO_FILE_FAULT = "there is no such file"


def file_fault(path: Path) -> str | None:
    """Why `path` is no regular file that can be read, or None when it is one. Opens nothing."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return NO_FILE_FAULT
    except ValueError:
        return "its name holds a NUL character"
    except OSError as error:
        return f"it cannot be reached ({error.strerror})"
    if stat.S_ISDIR(mode):
        return FOLDER_FAULT
    return None if stat.S_ISREG(mode) else PIPE_FAULT


def require_file(path: Path, what: str = "file") -> None:
    """Raises InputError, saying `what` was expected, unless `path` is a regular file."""
    fault = file_fault(path)
    if fault is not None:
        raise InputError(f"no {what} at {shown(path)}: {fault}")


def parse_json(text: str | bytes, *, unique_keys: bool = False) -> Any:
    """The value of a JSON text that is not too long, not nested too deeply, and whose numbers are short and finite.

    `unique_keys`: an object with one key twice, of which the last would count, is wrong too: for what people write by hand.
    Raises ValueError that says what is wrong.
    """
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"it has {len(text):,} characters; at most {MAX_JSON_BYTES:,} are read")
    pairs = _unique if unique_keys else None
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_finite, parse_constant=_no_constant, object_pairs_hook=pairs
        )
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} levels deep") from None
    if _is_deeper(value, MAX_JSON_DEPTH):
        raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} levels deep")
    return value


def read_json_file(path: Path) -> Any:
    """`parse_json` of a regular file in UTF-8. Raises ValueError, and OSError (FileNotFoundError when it is missing)."""
    size = path.stat().st_size
    fault = file_fault(path)
    if fault is not None:
        raise ValueError(fault)
    if size > MAX_JSON_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MAX_JSON_BYTES:,} are read")
    return parse_json(path.read_text(encoding="utf-8-sig"))


def parse_fraction(text: str) -> Fraction:
    """ "23.976", "24000/1001" or "1e-3" exactly. Raises ValueError for anything else, and for numbers of absurd length."""
    if len(text) > 80 or _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not a number")
    try:
        return Fraction(text)
    except ZeroDivisionError:
        raise ValueError(f"{text!r} divides by zero") from None


def parse_number(text: str) -> float:
    """ "3.5", "-1" or "1e-3", as everybody writes numbers: without Python's underscores and other alphabets' digits.

    Raises ValueError for anything else.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"{text[:40]!r} is not a number")
    return float(text)


def shown(text: object) -> str:
    """Text for one line of a terminal or a message: line breaks, control characters and bytes that are no UTF-8 as escapes,
    at most 300 characters.
    """
    whole = str(text)
    if len(whole) > 300:
        whole = f"{whole[:200]}... ({len(whole):,} characters)"
    return printable(whole).replace("\n", "\\n").replace("\t", "\\t")


def printable(text: str) -> str:
    """The text with its control characters and lone surrogates written as escapes, so that it can change no terminal."""
    return CONTROLS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise ValueError(f"it holds an integer of {len(digits):,} digits; at most {MAX_INTEGER_DIGITS} are read")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"it holds {digits[:40]}, which is larger than any number can be")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for position, (key, _) in enumerate(pairs) if key in dict(pairs[:position]))
        raise ValueError(f"it has the key {shown(repr(twice))} twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is not JSON")


def _is_deeper(value: Any, depth: int) -> bool:
    level: list[Any] = [value]
    for _ in range(depth + 1):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True
