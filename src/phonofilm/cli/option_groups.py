"""Options that several commands share: one definition, which `spread` puts into a command as single options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from inspect import Parameter
from typing import Annotated, Any, get_args, get_origin, get_type_hints


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its groups of options as single ones.

    A group is a parameter of type Annotated[DATACLASS, {FIELD: typer.Option(...), ...}]: types and defaults are those of the
    dataclass, and fields that the mapping leaves out keep their defaults. Typer sees `--device` and `--dtype` where the
    function has `machine: OneDevice`.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    names: dict[str, list[str]] = {}
    flat: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind, *options = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if not (options and isinstance(options[0], dict)):
            flat.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        inner = get_type_hints(kind)
        single = [field for field in fields(kind) if field.name in options[0]]
        groups[name], names[name] = kind, [field.name for field in single]
        for field in single:
            annotation = Annotated[inner[field.name], options[0][field.name]]  # type: ignore[valid-type, name-defined]
            flat.append(Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation))

    @wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{one: given.pop(one) for one in names[name]})
        command(**given)

    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run
