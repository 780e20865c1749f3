"""A fine-tuning's config from YAML: the ready ones by name, a user's own by path, single keys from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from phonofilm.data.yaml_files import parse_yaml, read_yaml
from phonofilm.errors import InputError
from phonofilm.training.config.finetune_config import FinetuneConfig
from phonofilm.untrusted import shown

READY = ("low_resource", "accelerate", "fsdp", "bridge_only", "nano", "distill", "distill_nano")


def read_config(name_or_path: str, overrides: Sequence[str] = (), data: Sequence[Path] = ()) -> FinetuneConfig:
    """The config of that name or file with `KEY.SUB=VALUE` overrides (values are YAML); `data` replaces its clips.

    Raises InputError that names every wrong key: unknown, of a wrong kind, or without effect.
    """
    content = _content(name_or_path)
    if not isinstance(content, dict):
        raise InputError(f"{name_or_path} holds no keys; expected a YAML file such as the ready ones")
    for override in overrides:
        _set(content, override)
    if data:
        section = content.setdefault("data", {})
        section["sets"] = [{"path": str(path)} for path in data]
    return parse_config(content, name_or_path)


def parse_config(content: Mapping[str, Any], origin: str) -> FinetuneConfig:
    """The checked config. Raises InputError."""
    try:
        return FinetuneConfig.model_validate(content)
    except ValidationError as error:
        raise InputError(f"config {origin}: " + "; ".join(map(_sentence, error.errors()))) from None


def write_config(content: Mapping[str, Any], path: Path) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")


def _content(name_or_path: str) -> Any:
    if name_or_path in READY:
        ready = files("phonofilm.training.config").joinpath("ready", f"{name_or_path}.yaml")
        return parse_yaml(ready.read_text(encoding="utf-8"), name_or_path)
    path = Path(name_or_path)
    if not path.exists():
        raise InputError(f"--config {shown(name_or_path)} is neither a file nor one of {', '.join(READY)}")
    return read_yaml(path)


def _set(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r} is no setting; expected KEY.SUB=VALUE, such as optimizer.lr=1e-4")
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        inner = section.get(parent)
        if inner is None:
            inner = section[parent] = {}
        if not isinstance(inner, dict):
            raise InputError(f"{override!r}: {parent} is a value and has no keys of its own")
        section = inner
    section[last] = _number(parse_yaml(value, shown(override)))


def _number(value: Any) -> Any:
    """YAML 1.1 takes 1e-4 for text; here it is a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _sentence(error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    given = "" if error["type"] in ("extra_forbidden", "value_error") else f" (given {error['input']!r})"
    return f"{key}: {message}{given}" if key else message + given
