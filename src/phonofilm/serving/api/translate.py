"""From a client's fields to what a job makes: the options of `phonofilm generate`, checked as far as that needs no model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from phonofilm.errors import InputError
from phonofilm.generation.films.retakes import parse_retakes
from phonofilm.generation.films.timed_prompts import parse_timed_prompts
from phonofilm.generation.options import (
    ClipOptions,
    check_given_clip,
    check_options,
    options_from_json,
)
from phonofilm.generation.preflight import check_words
from phonofilm.geometry import ClipGeometry, frames_for_seconds, parse_frame_rate, parse_frame_size
from phonofilm.models.known import NAMED_SIZES
from phonofilm.serving.api.errors import ApiError, invalid
from phonofilm.serving.api.fields import EditFields, ExtensionFields, VideoFields
from phonofilm.serving.api.media_times import check_keyframes
from phonofilm.serving.api.run_sizes import check_run_asked
from phonofilm.serving.api.stretches import check_stretches, retake_of
from phonofilm.serving.engines.sglang_limits import check_sglang_can
from phonofilm.serving.jobs.job import KEYFRAME, JobRequest, is_keyframe
from phonofilm.serving.most_work import RunSize
from phonofilm.serving.settings import RequestLimits, WorkerSettings
from phonofilm.untrusted import shown

# Our option for each field that has another name than it.
NAMES = {"num_inference_steps": "steps"}
SAME = (
    *(
        "prompt",
        "negative_prompt",
        "seconds",
        "part_seconds",
        "num_frames",
        "guidance_scale",
        "audio_guidance_scale",
        "solver",
        "cache",
    ),
    *("video_shift", "audio_shift", "boundary_ratio", "image_fit", "modality_scale", "guidance_interval"),
    *("overlap_frames", "retake", "retake_tracks"),
)
# The shape of the picture that is given.
AUTO = "auto"
FIRST_FRAMES = ("input_reference", "reference_url", "video", "video_url", "voice")


@dataclass(frozen=True)
class RequestChecks:
    """What a request is checked against: what the server allows, its LoRAs, and the model's sizes once they are known.

    sglang: the model's name where SGLang makes the clips; None where a session does. clip_seconds: of the clip of the library
    that it is made from. stretch: the fields in which the beginning and the end of a stretch were sent.
    """

    limits: RequestLimits
    loras: Mapping[str, str]
    facts: Mapping[str, Any] | None = None
    sglang: str | None = None
    clip_seconds: float | None = None
    stretch: tuple[str, str] = ("retake", "retake")


def options_of(fields: VideoFields) -> dict[str, Any]:
    """The options of the fields that were given. Raises ApiError for fields that contradict each other."""
    given = fields.model_dump(exclude_none=True)
    options = {name: given[name] for name in SAME if name in given}
    options |= {option: given[name] for name, option in NAMES.items() if name in given}
    if "num_frames" in options:
        options.pop("seconds", None)
    if fields.fps is not None:
        options["fps"] = str(fields.fps)
    if (size := _size(fields)) is not None:
        options["size"] = size
    if fields.flow_shift is not None:
        options.setdefault("video_shift", fields.flow_shift)
        options.setdefault("audio_shift", fields.flow_shift)
    if isinstance(fields, EditFields):
        options["retake"] = retake_of(fields)
    return options


def seeds_of(fields: VideoFields, most: int) -> list[int | None]:
    """A seed for each of at most `most` clips: those given, or consecutive ones from the one given, or none.

    Raises ApiError; for too many clips before there is a list as long as was asked for.
    """
    count = fields.n or fields.num_outputs_per_prompt or (len(fields.seed) if isinstance(fields.seed, list) else 1)
    if count > most:
        raise invalid(f"{shown(str(count))} clips; at most {most} in one request", "n")
    if fields.n and fields.num_outputs_per_prompt and fields.n != fields.num_outputs_per_prompt:
        raise invalid("n and num_outputs_per_prompt differ; give one", "n")
    if isinstance(fields.seed, list):
        if not fields.seed:
            raise invalid("the list of seeds is empty; give one for each clip, or leave it out", "seed")
        if len(fields.seed) != count:
            raise invalid(f"{len(fields.seed)} seeds for {count} clips", "seed")
        return list(fields.seed)
    return [None if fields.seed is None else fields.seed + index for index in range(count)]


def check_enhancing(settings: WorkerSettings, prompt: str) -> None:
    """Raises ApiError where a prompt cannot be rewritten: nobody does it here, or it is a film's, with times."""
    if settings.writing is None:
        raise invalid(
            "enhance_prompt: this server has no writing model; its operator names one with --writing-endpoint and "
            "--writing-model",
            "enhance_prompt",
        )
    if parse_timed_prompts(prompt):
        raise invalid("enhance_prompt: a prompt with times is not rewritten; write it out", "enhance_prompt")


def check_drawing(settings: WorkerSettings, fields: VideoFields, uploads: Collection[str]) -> None:
    """Raises ApiError where no first frame is drawn: nobody does it here, or the clip begins with something already."""
    name = "draw_first_frame"
    if settings.first_frames is None or settings.engine is not None:
        raise invalid(f"{name}: this server has no model for it; its operator names one with --first-frame-from", name)
    given = [one for one in FIRST_FRAMES if one in uploads or getattr(fields, one) is not None]
    if given or isinstance(fields, EditFields | ExtensionFields):
        raise invalid(f"{name}: the clip begins with {' and '.join(given) or 'another clip'} already", name)


def check_request_for(request: JobRequest, known: RequestChecks) -> None:
    """Raises ApiError for a request that this server or the model could not meet; the worker checks the rest."""
    limits = known.limits
    if len(request.prompt) > limits.max_prompt_characters:
        raise invalid(f"the prompt has more than {limits.max_prompt_characters} characters", "prompt")
    try:
        options = options_from_json(request.options, "request")
        media = ["keyframe" if is_keyframe(name) else name for name in (*request.inputs, *request.urls)]
        _check_seconds(options, limits)
        check_options(options, in_memory=media)
        for seed in request.seeds:
            check_options(ClipOptions(prompt="-", seed=seed))
        check_words(options)
        _check_parts(options, known)
        geometry = _check_size(options, known)
        check_given_clip(options, media)
        times = [float(name.removeprefix(KEYFRAME)) for name in (*request.inputs, *request.urls) if is_keyframe(name)]
        check_keyframes(times, media, _rate(options, known), geometry, _may_be_film(options, known))
        if known.sglang is not None:
            check_sglang_can(options, media, request.loras, known.sglang)
    except InputError as error:
        message = str(error).removeprefix("request: ")
        raise invalid(message, param_in(message)) from None
    if options.steps is not None and options.steps > limits.max_steps:
        raise invalid(f"{options.steps} steps; at most {limits.max_steps}", "num_inference_steps")


def clip_field(fields: VideoFields) -> str:
    """Which option a field named `video` fills: a clip that wants sound, one to go on from, or one to mend."""
    return "continue_from" if isinstance(fields, ExtensionFields) else "video"


def _size(fields: VideoFields) -> str | None:
    if (fields.width is None) != (fields.height is None):
        raise invalid("width and height belong together", "width" if fields.width is None else "height")
    both = None if fields.width is None else f"{fields.width}x{fields.height}"
    size = None if fields.size is None else fields.size.strip().lower()
    if size is not None and both is not None and size != both:
        raise invalid(f"size {shown(size)} and {both} were both given; give one", "size")
    return size or both


def size_in_pixels(size: str) -> tuple[int, int]:
    """(height, width) of a size that is no AUTO. Raises InputError."""
    return NAMED_SIZES[size] if size in NAMED_SIZES else parse_frame_size(size, NAMED_SIZES)


def _check_parts(options: ClipOptions, known: RequestChecks) -> None:
    """Stretches that are made anew, and the parts of a longer film, as far as that needs no model."""
    retakes = () if options.retake is None else parse_retakes(options.retake)
    check_stretches(retakes, known.stretch, known.clip_seconds)
    facts, overlap = known.facts or {}, options.overlap_frames or 1
    factor = facts.get("temporal_factor", 4)
    if (overlap - 1) % factor:
        raise InputError(f"overlap_frames {overlap} must be 1 + a multiple of {factor}; use for example 17")
    if options.part_seconds is not None:
        rate = _rate(options, known)
        frames = frames_for_seconds(options.part_seconds, rate, factor)
        if frames <= overlap:
            raise InputError(
                f"part_seconds {options.part_seconds:g} makes parts of {frames} frames, and each should be longer than the "
                f"{overlap} that it shares with the one before; use more seconds"
            )


def _check_seconds(options: ClipOptions, limits: RequestLimits) -> None:
    """Before anything is counted in frames: what is far too long is said in the words of the request."""
    stretches = parse_timed_prompts(options.prompt or "")
    for seconds in (options.seconds, *(one.end for one in stretches[-1:])):
        if seconds is not None and seconds > limits.max_seconds:
            raise InputError(f"seconds: {seconds:g} s; at most {limits.max_seconds:g} s in one request")


def _rate(options: ClipOptions, known: RequestChecks) -> Fraction:
    """As asked, else the model's, else that of MOVA."""
    return parse_frame_rate(options.fps or (known.facts or {}).get("fps", "24"))


def _may_be_film(options: ClipOptions, known: RequestChecks) -> bool:
    """Whether a clip may be made in parts."""
    facts = known.facts
    own = 0.0 if facts is None else float(facts["num_frames"] / parse_frame_rate(facts["fps"]))
    longer = options.seconds is not None and options.seconds > own
    return longer or options.part_seconds is not None or bool(parse_timed_prompts(options.prompt or ""))


def _check_size(options: ClipOptions, known: RequestChecks) -> ClipGeometry | None:
    """Raises InputError; the clip's sizes, where the model's are known and an image does not decide them."""
    facts, limits = known.facts or {}, known.limits
    rate = _rate(options, known)
    height: int | None
    width: int | None
    if options.size is None or options.size == AUTO:
        height, width = facts.get("height"), facts.get("width")
    else:
        height, width = size_in_pixels(options.size)
    factor = facts.get("temporal_factor", 4)
    frames = options.num_frames if options.num_frames is not None else facts.get("num_frames")
    stretches = parse_timed_prompts(options.prompt or "")
    seconds = stretches[-1].end if stretches else options.seconds
    if seconds is not None:
        frames = frames_for_seconds(seconds, rate, factor)
    # Seconds are checked as they were given: the last frame of so many may reach beyond them.
    if seconds is None and frames is not None and frames / rate > Fraction(limits.max_seconds):
        length = f"{frames} frames are {float(frames / rate):g} s"
        raise InputError(f"num_frames: {length}; at most {limits.max_seconds:g} s in one request")
    if width is None or height is None:
        return None
    if max(width, height) > limits.max_side:
        raise InputError(f"size: {width}x{height}; at most {limits.max_side} pixels a side")
    if frames is not None and width * height * frames > limits.max_pixel_frames:
        raise InputError(
            f"size: {frames} frames of {width}x{height} are more than this server makes at once; use fewer or smaller ones"
        )
    if not facts:
        return None
    frames = frames or facts["num_frames"]
    if known.sglang is None:
        check_run_asked(options, RunSize(width, height, frames), rate, facts)
    return ClipGeometry(height, width, frames, rate, facts["spatial_factor"], factor, patch=facts["patch"])


def param_in(message: str) -> str | None:
    """The field that a message of the library begins with, in the API's words."""
    word = re.match(r"[a-z_]+", message.removeprefix("the "))
    names = {"steps": "num_inference_steps", "frame": "fps", "lora": "loras", "image": "input_reference"}
    found = names.get(word[0], word[0]) if word else None
    return found if found in {*EditFields.model_fields, *ExtensionFields.model_fields} else None


def model_named(given: str | None, models: Mapping[str, str]) -> str:
    """The model's name here; clients may use its hub id too. Raises ApiError (404) for one that is not served."""
    if given is None:
        return next(iter(models))
    for name, source in models.items():
        if given in (name, source):
            return name
    message = f"the model {shown(given)!r} is not served here; there is {', '.join(models)}"
    raise ApiError(404, message, "model_not_found", param="model")
