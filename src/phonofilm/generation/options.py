"""The options of one clip, as given. Reading them from a JSON line and merging two sets; their values are checked elsewhere."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from phonofilm.errors import InputError
from phonofilm.generation.films.retakes import parse_retakes, retakes_text
from phonofilm.generation.films.timed_prompts import parse_timed_prompts, timed_prompts_from_json
from phonofilm.generation.outputs import named_output
from phonofilm.untrusted import parse_number, shown

MOST_SECONDS = 3600.0  # of a film
MAX_CLIPS = 10_000
MOST_OVERLAP = 10_000
MAX_SEED = 2**63 - 1
# Options that change nothing unless one of the others is given.
NEEDS = {
    "retake": ("video",),
    "retake_tracks": ("retake",),
    "overlap_frames": ("continue_from", "seconds"),
    "part_seconds": ("seconds",),
    "image_fit": ("image", "last_image", "keyframe"),
}
# Of texts that are not free, for errors.
EXAMPLES = {
    "keyframe": "3.5=picture.png",
    "lora": "file.safetensors:0.8",
    "retake": "1.5:2.5",
    "size": "640x352",
    "modality_scale": "3.5,1",
    "guidance_interval": "0:0.6",
    "cache": "easy:0.05",
    "fps": "23.976",
}
# Setting one option of a group unsets the others of the options below it.
EXCLUSIVE = (("seconds", "num_frames"), ("video", "audio", "continue_from", "voice"))


@dataclass(frozen=True)
class ClipOptions:
    """Options as they were given; None where an option was left out. The names are the command's options and a JSONL line's keys.

    A prompt may have times, "0-8: A ball bounces; 8-16: A lamp blinks". Values of several parts are text: size "640x352",
    retake "1.5:2.5" (seconds) or "1.5:2.5; 4:4.5=A bell rings", modality_scale "3.5,1", fps "24000/1001", guidance_interval
    "0:0.6" (of the steps), each keyframe "3.5=picture.png", each lora "file", "file:0.8" or "file:video=1,audio=0.5"; no LoRA
    at all is "none".
    """

    prompt: str | None = None
    negative_prompt: str | None = None
    image: Path | None = None
    last_image: Path | None = None
    keyframe: tuple[str, ...] | None = None
    image_fit: str | None = None
    video: Path | None = None
    audio: Path | None = None
    voice: Path | None = None
    continue_from: Path | None = None
    overlap_frames: int | None = None
    retake: str | None = None
    retake_tracks: str | None = None
    size: str | None = None
    seconds: float | None = None
    part_seconds: float | None = None
    num_frames: int | None = None
    fps: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    audio_guidance_scale: float | None = None
    modality_scale: str | None = None
    guidance_interval: str | None = None
    solver: str | None = None
    cache: str | None = None
    video_shift: float | None = None
    audio_shift: float | None = None
    boundary_ratio: float | None = None
    lora: tuple[str, ...] | None = None
    seed: int | None = None
    num_clips: int | None = None
    output: Path | None = None
    output_type: str | None = None
    contact_sheet: Path | None = None

    def over(self, base: ClipOptions) -> ClipOptions:
        """These options, and those of `base` where one was left out."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        unset = {name: None for group in EXCLUSIVE if given.keys() & set(group) for name in group}
        if not given.keys().isdisjoint(("video", "continue_from")):
            unset |= dict.fromkeys(("image", "last_image"))  # frames of what was made, where there is a clip now
        return replace(base, **(unset | given))


def check_options(options: ClipOptions, in_memory: Collection[str] = ()) -> tuple[str, int]:
    """The prompt and the number of clips. Raises InputError for options that make no clip, or that would change nothing.

    `in_memory`: the options that are given as objects instead of files.
    """
    retakes = () if options.retake is None else parse_retakes(options.retake)
    prompt = options.prompt
    if prompt is None and retakes and all(one.prompt for one in retakes):
        prompt = retakes[0].prompt  # not used: each stretch has its own
    if prompt is None or not prompt.strip():
        raise InputError("the prompt is empty; say what should be seen and heard")
    there = {field.name for field in fields(options) if getattr(options, field.name) is not None}.union(in_memory)
    timed = parse_timed_prompts(prompt) if ":" in prompt else ()
    if timed:
        there.add("seconds")  # the last time is how long it is
    end = timed[-1].end if timed else None
    for name, seconds in (("seconds", options.seconds), ("seconds", end), ("part_seconds", options.part_seconds)):
        if seconds is None:
            continue
        if not seconds > 0:  # NaN too
            raise InputError(f"{name} {seconds:g} is not positive; use for example 8")
        if seconds > MOST_SECONDS:
            raise InputError(f"{name} {seconds:g} is more than {MOST_SECONDS:g}, the longest")
    if options.overlap_frames is not None and not 1 <= options.overlap_frames <= MOST_OVERLAP:
        raise InputError(f"overlap_frames {options.overlap_frames} is outside 1 to {MOST_OVERLAP}; use for example 17")
    for name, needed in NEEDS.items():
        if name in there and there.isdisjoint(needed):
            raise InputError(f"{name} was given without {' or '.join(needed)}; it would change nothing")
    count = clip_count(options)
    if options.seed is not None and not 0 <= options.seed <= MAX_SEED - count:
        raise InputError(f"seed {options.seed} is outside 0 to {MAX_SEED - count}")
    if sum(name in there for name in EXCLUSIVE[1]) > 1:
        raise InputError("give one of video, audio, continue_from and voice: what they leave open is what is made")
    held = ("image",) if "continue_from" in there else ("image", "last_image") if "video" in there else ()
    for name in () if "retake" in there else held:
        if name in there:
            raise InputError(f"{name} is a frame of what is made, and the given clip keeps its own; leave {name} out")
    return prompt, count


def check_given_clip(options: ClipOptions, given: Collection[str]) -> None:
    """A clip that gets sound, or a stretch anew, keeps its length and frame rate. Raises InputError."""
    chosen = [name for name in ("seconds", "num_frames", "fps") if getattr(options, name) is not None]
    if chosen and "video" in given:
        raise InputError(f"{chosen[0]} follows the given video; leave it out")


def clip_count(options: ClipOptions) -> int:
    """How many clips are asked for. Raises InputError for none or too many."""
    count = 1 if options.num_clips is None else options.num_clips
    if not 1 <= count <= MAX_CLIPS:
        raise InputError(f"num_clips {count} is outside 1 to {MAX_CLIPS}")
    return count


def options_from_json(content: Any, where: str) -> ClipOptions:
    """The options of a JSONL line (or of a clip's metadata). Raises InputError, naming `where`, for a key or value of no use."""
    if not isinstance(content, Mapping):
        raise InputError(f'{where}: expected a JSON object such as {{"prompt": "..."}}, got {content!r:.60}')
    kinds = _kinds()
    if unknown := [str(key) for key in content if key not in kinds]:
        raise InputError(f"{where}: unknown key {shown(', '.join(unknown))}; known are {', '.join(kinds)}")
    values = {key: value for key, value in content.items() if value is not None}
    return ClipOptions(**{key: _converted(key, value, kinds[key], where) for key, value in values.items()})


@cache
def _kinds() -> dict[str, type]:
    """What each option is, by its name."""
    return {name: get_args(hint)[0] for name, hint in get_type_hints(ClipOptions).items()}


def _converted(key: str, value: Any, kind: type, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key == "retake" and isinstance(value, list) and value and isinstance(value[0], str | list):
        return retakes_text(value)
    if kind is str and isinstance(value, list) and key in ("retake", "modality_scale", "guidance_interval"):
        return ("," if key == "modality_scale" else ":").join(str(part) for part in value)
    if key == "prompt" and isinstance(value, Mapping):
        return timed_prompts_from_json(value, where)
    if key in ("lora", "keyframe") and (
        isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value))
    ):
        return (value,) if isinstance(value, str) else tuple(value)
    if kind is str and number and key in ("fps", "modality_scale"):
        return str(value)
    if kind is float and number:
        return float(value)
    if kind is Path and isinstance(value, str) and value:
        return named_output(value) if key in ("output", "contact_sheet") else Path(value)
    if kind in (int, str) and isinstance(value, kind) and not isinstance(value, bool):
        return value
    words = {int: "a whole number", float: "a number", str: "text", Path: "a path as text"}
    expected = words.get(kind, "text")
    if key in EXAMPLES:
        expected += f" such as {EXAMPLES[key]}" + (", or a list of such" if key in ("keyframe", "lora") else "")
    raise InputError(f"{where}: {key} is {shown(repr(value))}; expected {expected}")


def parse_keyframe(text: str) -> tuple[float, Path]:
    """ "3.5=picture.png" -> (3.5, Path("picture.png")), seconds and file."""
    seconds, equals, file = text.partition("=")
    try:
        time = parse_number(seconds)
    except ValueError:
        time = -1.0
    if not 0 <= time < math.inf or not equals or not file:
        raise InputError(f"keyframe {shown(repr(text))} is not SECONDS=FILE; use for example 3.5=picture.png")
    return time, Path(file)


def parse_interval(text: str) -> tuple[float, float]:
    """ "0:0.6" -> (0.0, 0.6), fractions of the steps."""
    try:
        start, end = (parse_number(part) for part in text.split(":"))
    except ValueError:
        raise InputError(f"guidance_interval {text!r} is not START:END in parts of the steps; use 0:0.6") from None
    return start, end


def parse_scales(text: str) -> float | tuple[float, ...]:
    """ "3.5" -> 3.5; "3.5,1" -> (3.5, 1.0)."""
    try:
        values = tuple(parse_number(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"modality_scale {text!r} is not a number or several; use for example 2, or 3.5,1") from None
    return values[0] if len(values) == 1 else values
