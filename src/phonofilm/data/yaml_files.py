"""YAML within bounds: plain values, no deep nesting, nothing that refers back to itself. What they mean is for the callers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, MissingExtraError
from phonofilm.untrusted import MAX_JSON_DEPTH, require_file, shown

MOST_YAML_BYTES = 2**20


def read_yaml(path: Path) -> Any:
    """The values of a YAML file in UTF-8. Raises InputError for one that is missing or too long, and as `parse_yaml`."""
    require_file(path)
    size = path.stat().st_size
    if size > MOST_YAML_BYTES:
        raise InputError(f"{shown(path)} has {size:,} bytes; at most {MOST_YAML_BYTES:,} are read")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    return parse_yaml(text, shown(path))


def parse_yaml(text: str, origin: str) -> Any:
    """The values of a text. Raises InputError, naming `origin`, for one that is not YAML or refers to itself (aliases)."""
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("pyyaml", "data") from error
    try:
        depth = 0
        for event in yaml.parse(text):  # as it is read: what is nested without end takes time without end
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_JSON_DEPTH:
                raise InputError(
                    f"{origin} is not YAML that is read: it is nested more than {MAX_JSON_DEPTH} levels deep"
                )
            if isinstance(event, yaml.AliasEvent):
                raise InputError(f"{origin} refers back to parts of itself (aliases, *name); write them out")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{origin} is not YAML: {shown(' '.join(str(error).split()))}") from error
