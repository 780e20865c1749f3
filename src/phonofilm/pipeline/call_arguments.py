"""What the arguments of a call mean: sizes, tasks, pictures, and the defaults of those left out. No model runs here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry, nearest_multiple, parse_frame_rate
from phonofilm.media.clip import Clip
from phonofilm.media.images import Fit, fit_image
from phonofilm.pipeline import edit_tasks
from phonofilm.pipeline.conditions import image_tensor, white_frame
from phonofilm.pipeline.edit_tasks import EditTask
from phonofilm.pipeline.given_media import Picture, picture, pictures
from phonofilm.pipeline.types import Decoded, Text

NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，"
    "最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指"
)

SHORTEST_VOICE = Fraction(1, 10)  # seconds
QUIETEST_VOICE = 1e-3  # -60 dB of full scale, at the loudest sample


@dataclass(frozen=True)
class Defaults:
    """What a call uses where an argument is left out: the released models' own, or those in a model_index.json."""

    height: int = 352
    width: int = 640
    num_frames: int = 193
    frame_rate: float = 24.0
    num_inference_steps: int = 50
    guidance_scale: float = 5.0
    modality_scale: float = 1.0
    negative_prompt: str = NEGATIVE_PROMPT


@dataclass(frozen=True)
class Tracks:
    """The tracks a call is given, read: `audio` and `voice` are float32 [channels, samples] with their rates. See the
    pipeline's call."""

    video: Clip | None = None
    audio: tuple[np.ndarray, int] | None = None
    continue_from: Clip | None = None
    overlap_frames: int = edit_tasks.OVERLAP_FRAMES
    voice: tuple[np.ndarray, int] | None = None
    retake: tuple[float, float] | None = None
    retake_tracks: edit_tasks.RetakeTracks = "both"

    @property
    def clip(self) -> Clip | None:
        """The clip whose size and rate the new one follows."""
        return self.video if self.video is not None else self.continue_from


@dataclass(frozen=True)
class ClipSizes:
    """The sizes of a clip as given; None means: follow the given clip, else the checkpoint's default."""

    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    frame_rate: float | Fraction | None = None


def default_geometry(
    defaults: Defaults, video_vae: Mapping[str, Any], audio_vae: Mapping[str, Any], video_dit: Mapping[str, Any]
) -> ClipGeometry:
    """The sizes of a clip with no size set, from the configs of the networks, none of whose keys may be left out."""
    return ClipGeometry(
        height=defaults.height,
        width=defaults.width,
        num_frames=defaults.num_frames,
        frame_rate=parse_frame_rate(defaults.frame_rate),
        spatial_factor=video_vae["scale_factor_spatial"],
        temporal_factor=video_vae["scale_factor_temporal"],
        sampling_rate=audio_vae["sample_rate"],
        hop_length=math.prod(audio_vae["encoder_rates"]),
        patch=video_dit["patch_size"][-1],
    )


def choose_edit_task(tracks: Tracks, sizes: ClipSizes, default: ClipGeometry) -> EditTask:
    """Which window to make and what of it is known. `default` holds the checkpoint's factors and default sizes."""
    named = [name for name in ("video", "audio", "continue_from", "voice") if getattr(tracks, name) is not None]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} were both given; give one: what it leaves open is what is made")
    if tracks.retake is not None and tracks.video is None:
        raise InputError("retake needs the clip to mend: give it as video=")
    geometry = _geometry(sizes, tracks.clip, default)
    if tracks.continue_from is not None:
        return edit_tasks.continuation(tracks.continue_from, geometry, tracks.overlap_frames)
    if tracks.video is not None:
        if sizes.num_frames is not None or sizes.frame_rate is not None:
            raise InputError("num_frames and frame_rate follow the given video; leave them out")
        geometry = edit_tasks.covering_geometry(tracks.video, geometry)
        if tracks.retake is not None:
            return edit_tasks.retake(tracks.video, geometry, tracks.retake, tracks.retake_tracks)
        return edit_tasks.sound_for_video(tracks.video, geometry)
    if tracks.audio is not None:
        wave, rate = tracks.audio
        if sizes.num_frames is None:
            frames = max(1, -(-wave.shape[1] * geometry.frame_rate // rate))
            factor = geometry.temporal_factor
            geometry = replace(geometry, num_frames=int(1 + factor * -(-(frames - 1) // factor)))
        return edit_tasks.picture_for_sound(wave, rate, geometry)
    if tracks.voice is not None:
        return edit_tasks.voice_before(*tracks.voice, _after_voice(tracks.voice, sizes, geometry, default.seconds))
    return EditTask(geometry, None, None, None, _as_made)


def _after_voice(
    voice: tuple[np.ndarray, int], sizes: ClipSizes, geometry: ClipGeometry, own_seconds: Fraction
) -> ClipGeometry:
    """The clip after a voice's sample: as long as asked, else what the sample leaves of the model's own length.

    Raises InputError for a sample longer than half of that, shorter than a sound of speech, or silent.
    """
    wave, rate = voice
    seconds = Fraction(wave.shape[1], rate)
    if seconds < SHORTEST_VOICE:
        raise InputError(
            f"the voice's sample lasts {float(seconds):.4f} s, too short to be heard as a voice; give a few clear words, at "
            f"least {float(SHORTEST_VOICE):g} s"
        )
    if seconds > own_seconds / 2:
        raise InputError(
            f"the voice's sample lasts {float(seconds):.2f} s; at most half of the model's {float(own_seconds):.2f} s can "
            "stand before a clip: cut the sample to a few clear words"
        )
    if float(np.abs(wave).max()) < QUIETEST_VOICE:
        raise InputError("the voice's sample is silent; give a few clear words")
    if sizes.num_frames is not None:
        return geometry
    factor = geometry.temporal_factor
    return replace(
        geometry, num_frames=geometry.num_frames - factor * math.ceil(seconds * geometry.frame_rate / factor)
    )


def first_frames(
    image: Picture | Sequence[Picture] | None, task: EditTask, fit: Fit, prompts: int
) -> tuple[Tensor, ...]:
    """The first frames, float32 [1,3,h,w] in -1..1: one for all prompts, or one for each. White stands for none."""
    if image is None:
        image = task.first_frame
    if image is None:
        return (white_frame(task.geometry),)
    images = pictures(image)
    if len(images) not in (1, prompts):
        raise InputError(f"{len(images)} images for {prompts} prompts; give one image, or one for each prompt")
    return tuple(frame_tensor(one, task.geometry, fit) for one in images)


def frame_tensor(image: Picture, geometry: ClipGeometry, fit: Fit, name: str = "image") -> Tensor:
    """A picture fitted to the clip: float32 [1,3,h,w] in -1..1."""
    return image_tensor(fit_image(picture(image, name), geometry.height, geometry.width, fit))


def count_prompts(prompt: str | Sequence[str] | Text | None) -> int:
    """How many prompts were given, as text or as embeddings. Raises InputError for none, or an empty one."""
    if prompt is None:
        raise InputError("give a prompt, or prompt_embeds in its place")
    if isinstance(prompt, Text):
        return prompt.embeds.shape[0]
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts or not all(p.strip() for p in prompts):
        raise InputError("the prompt is empty; say what should be seen and heard")
    return len(prompts)


def _geometry(sizes: ClipSizes, clip: Clip | None, default: ClipGeometry) -> ClipGeometry:
    multiple = default.spatial_factor * default.patch
    height, width, rate = default.height, default.width, default.frame_rate
    if clip is not None:
        height, width = nearest_multiple(clip.height, multiple), nearest_multiple(clip.width, multiple)
        rate = clip.frame_rate
    changes: dict[str, Any] = {
        "height": height if sizes.height is None else sizes.height,
        "width": width if sizes.width is None else sizes.width,
        "num_frames": default.num_frames if sizes.num_frames is None else sizes.num_frames,
        "frame_rate": rate if sizes.frame_rate is None else sizes.frame_rate,
    }
    return replace(default, **changes)


def _as_made(made: Decoded) -> Decoded:
    return made
