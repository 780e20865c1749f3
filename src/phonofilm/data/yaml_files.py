"""YAML within bounds: plain values, no deep nesting, nothing that refers back to itself. What they mean is for the callers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, MissingExtraError
from phonofilm.untrusted import MAX_JSON_DEPTH, require_file, shown

MOST_YAML_BYTES = 2**20
# What a value without quotes is, and the characters that it may begin with; all else is text.
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


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
        return yaml.load(text, Loader=_plain_loader())
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{origin} is not YAML: {shown(' '.join(str(error).split()))}") from error


def _plain_loader() -> Any:
    """PyYAML's safe loader with the numbers and truth values of YAML 1.2, and no key twice.

    YAML 1.1, which it reads, takes "no" for false, 010 for 8, 1:30 for 90, a date for an object and 1e-4 for text, and the
    last of two equal keys for the only one.
    """
    import yaml

    class PlainLoader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            found: dict[Any, Any] = super().construct_mapping(node, deep)
            if len(found) < len(node.value):
                keys = [self.construct_object(key) for key, _ in node.value]
                twice = next(key for position, key in enumerate(keys) if key in keys[:position])
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {twice!r} stands there twice", node.start_mark
                )
            return found

    PlainLoader.yaml_implicit_resolvers = {None: []}
    for kind, pattern, first in _SCALARS:
        begins = [*first, ""] if kind == "null" else list(first)
        PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"), begins)
    return PlainLoader
