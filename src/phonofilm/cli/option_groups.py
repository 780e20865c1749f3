"""Options that several commands share: one definition, which `spread` puts into a command as single options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from inspect import Parameter
from typing import Annotated, Any, get_args, get_origin, get_type_hints

REPEATED = tuple[str, ...] | None


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its groups of options as single ones.

    A group is a parameter of type Annotated[DATACLASS, {FIELD: typer.Option(...), ...}]: types and defaults are those of the
    dataclass, and fields that the mapping leaves out keep their defaults. Typer sees `--device` and `--dtype` where the
    function has `machine: OneDevice`. A field that is a tuple of texts is an option that may be repeated.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[type, list[str]]] = {}
    flat: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind, *options = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if not (options and isinstance(options[0], dict)):
            flat.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        types, defaults = get_type_hints(kind), {field.name: field.default for field in fields(kind)}
        groups[name] = kind, list(options[0])
        for one, option in options[0].items():
            typed = list[str] | None if types[one] == REPEATED else types[one]
            annotation = Annotated[typed, option]  # type: ignore[valid-type]
            flat.append(Parameter(one, Parameter.KEYWORD_ONLY, default=defaults[one], annotation=annotation))

    @wraps(command)
    def run(**given: Any) -> None:
        for name, (kind, names) in groups.items():
            given[name] = kind(**{one: _as_field(given.pop(one)) for one in names})
        command(**given)

    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run


def _as_field(value: Any) -> Any:
    """A repeated option, which arrives as a list, as the tuple that a frozen dataclass holds; None when it was not given."""
    return (tuple(value) or None) if isinstance(value, list) else value
