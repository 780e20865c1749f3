"""What SGLang's MOVA can be asked for, so that the rest is refused when it is submitted. Facts of sglang 0.5.23.

Its MOVA pipeline is image-to-video alone (ModelTaskType.I2V), has the resolutions of the release, no LoRA stage, whole frame
rates, one guidance for both tracks and fixed shifts; POST /v1/videos has no field for the rest.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from typing import Any

from phonofilm.errors import InputError
from phonofilm.generation.films.timed_prompts import parse_timed_prompts
from phonofilm.generation.options import ClipOptions
from phonofilm.geometry import frames_for_seconds, parse_frame_rate
from phonofilm.lora.strength import NO_LORA
from phonofilm.serving.engines.engine_settings import SIZES

# Our option, and the field that SGLang takes it in.
FIELDS = {"negative_prompt": "negative_prompt", "guidance_scale": "guidance_scale", "steps": "num_inference_steps"}
REFUSED = {
    "last_image": "a last frame is not held",
    "keyframe": "keyframes are not held",
    "video": "a clip's picture cannot be given",
    "audio": "a sound cannot be given",
    "voice": "a voice cannot be given",
    "continue_from": "clips are not continued",
    "overlap_frames": "clips are not continued",
    "part_seconds": "films are not made in parts",
    "retake": "stretches are not made anew",
    "retake_tracks": "stretches are not made anew",
    "image_fit": "the first frame is always cropped",
    "audio_guidance_scale": "both tracks have one guidance_scale",
    "modality_scale": "there is no guidance between picture and sound",
    "guidance_interval": "all steps are guided",
    "solver": "there is one solver",
    "cache": "no steps are skipped",
    "video_shift": "the noise schedule is fixed",
    "audio_shift": "the noise schedule is fixed",
    "boundary_ratio": "the noise schedule is fixed",
}
FRAMES, FPS, TEMPORAL_FACTOR, STEPS = 193, Fraction(24), 4, 50


def facts_of(model: str) -> dict[str, Any]:
    """The sizes of a clip with no options set, as workers of ours report them."""
    height, width = SIZES[model]
    return {
        "height": height,
        "width": width,
        "num_frames": FRAMES,
        "fps": str(FPS),
        "spatial_factor": 8,
        "temporal_factor": TEMPORAL_FACTOR,
        "patch": 2,
        "steps": STEPS,
    }


def check_sglang_can(options: ClipOptions, media: Collection[str], loras: Collection[str] | None, model: str) -> None:
    """Raises InputError that begins with the option which SGLang cannot obey. `media`: the options that files came for."""
    for name, reason in REFUSED.items():
        if name in media or getattr(options, name) is not None:
            raise InputError(f"{name}: not with the engine SGLang: {reason}")
    if "image" not in media:
        raise InputError("image: SGLang's MOVA makes no clip without a first frame; send one")
    if set(loras or ()) - {NO_LORA}:
        raise InputError("lora: not with the engine SGLang: its MOVA pipeline takes none")
    if parse_timed_prompts(options.prompt or ""):
        raise InputError("prompt: not with the engine SGLang: a prompt with times is a film in parts")
    height, width = SIZES[model]
    allowed = (f"{width}x{height}", f"{height}x{width}", model)
    if options.size is not None and options.size not in allowed:
        raise InputError(f"size: SGLang makes {model} clips of {allowed[0]} and {allowed[1]}, not {options.size:.40}")
    _frame_rate(options)
    if frames_of(options) > FRAMES:
        raise InputError(f"seconds: SGLang makes at most {FRAMES} frames at once; films in parts are not made")


def request_fields(options: ClipOptions, seed: int, model: str) -> dict[str, Any]:
    """The fields of POST /v1/videos. Every size is said: SGLang's own defaults make 4 s of it, not 8."""
    height, width = SIZES[model]
    if options.size not in (None, model):
        width, height = (int(side) for side in str(options.size).split("x"))
    given = {field: getattr(options, name) for name, field in FIELDS.items()}
    return {
        "prompt": options.prompt,
        "size": f"{width}x{height}",
        "num_frames": frames_of(options),
        "fps": int(_frame_rate(options)),
        "seed": seed,
        **{name: value for name, value in given.items() if value is not None},
    }


def frames_of(options: ClipOptions) -> int:
    """Frames of the clip, legal for MOVA."""
    if options.num_frames is not None:
        return options.num_frames
    if options.seconds is None:
        return FRAMES
    return frames_for_seconds(min(options.seconds, 1e6), _frame_rate(options), TEMPORAL_FACTOR)


def _frame_rate(options: ClipOptions) -> Fraction:
    rate = FPS if options.fps is None else parse_frame_rate(options.fps)
    if rate.denominator != 1:
        raise InputError(f"fps: SGLang takes whole frame rates, not {options.fps}")
    return rate
