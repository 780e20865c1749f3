"""Stretches of a clip that are made anew: the fields that say which, and whether the clip has them."""

from __future__ import annotations

from collections.abc import Sequence

from phonofilm.errors import InputError
from phonofilm.generation.films.retakes import Retake
from phonofilm.serving.api.errors import invalid
from phonofilm.serving.api.fields import EditFields, VideoFields


def stretch_fields(fields: VideoFields) -> tuple[str, str]:
    """The fields in which the beginning and the end of a stretch were sent."""
    both = isinstance(fields, EditFields) and fields.retake is None
    return ("start", "end") if both else ("retake", "retake")


def retake_of(fields: EditFields) -> list[float] | str:
    """The stretch as the option has it. Raises ApiError where none was given, or two."""
    if fields.retake is not None:
        if fields.start is not None or fields.end is not None:
            raise invalid("give start and end, or retake, not both", "retake")
        return fields.retake
    if fields.start is None or fields.end is None:
        missing = "start" if fields.start is None else "end"
        raise invalid("say which stretch is made anew: start and end, in seconds", missing)
    return [fields.start, fields.end]


def check_stretches(retakes: Sequence[Retake], names: tuple[str, str], seconds: float | None) -> None:
    """Raises InputError for a stretch that is none, or lies outside a clip of so many seconds.

    Where those are not known, the worker finds out. names: as `stretch_fields` has them.
    """
    begin, finish = names
    for one in retakes:
        if one.start < 0:
            raise InputError(f"{begin}: {one.start:g} s is before the clip, which starts at 0")
        if not one.start < one.end:
            raise InputError(f"{finish}: {one.end:g} s is not after {one.start:g} s, where the stretch starts")
        if seconds is None or one.end <= seconds + 1e-6:
            continue
        if begin == finish:  # as the worker says it, and the page knows it
            outside = f"{begin} {one.start:g}:{one.end:g} is not a stretch of a clip of {seconds:.3f} s"
            raise InputError(f"{outside}; use seconds, start before end")
        name, time = (begin, one.start) if one.start >= seconds else (finish, one.end)
        raise InputError(f"{name}: {time:g} s is outside the clip, which is {seconds:.3f} s long")
