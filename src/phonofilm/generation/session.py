"""The interface for Python: `load` opens a checkpoint on this machine, and the session makes clips of it, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from phonofilm.errors import InputError
from phonofilm.generation.checkpoint import DEFAULT_MODEL, Checkpoint, open_checkpoint
from phonofilm.generation.clip_maker import ClipMaker
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.inputs import MediaInMemory
from phonofilm.generation.options import ClipOptions, options_from_json
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.placement.ranks import parallel_config
from phonofilm.generation.repeating import provenance_of
from phonofilm.generation.report import OnProgress, silent
from phonofilm.generation.session_arguments import (
    Loras,
    clip_to_repeat,
    is_file,
    lora_texts,
    picture_times,
    plain_value,
)
from phonofilm.media.clip import Clip
from phonofilm.pipeline.given_media import GivenClip, GivenSound, Picture


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = "auto",
    offload: str = "auto",
    offload_to_disk: str | Path | None = None,
    vram_limit: str | None = None,
    ram_limit: str | None = None,
    slots: int | None = None,
    resident_layers: int | None = None,
    vae_tiling: bool | None = None,
    gpus: int = 1,
    ulysses_degree: int | None = None,
    ring_degree: int | None = None,
    cfg_parallel: bool = False,
    shard_weights: bool = False,
    attn_backend: str | None = None,
    kernels: str = "auto",
    quantize: str | None = None,
    compile: bool = False,
    loras: Loras = (),
) -> Session:
    """Open a checkpoint (a folder, a hub id, or nano, 360p, 720p) on this machine; what is not here yet is downloaded.

    The arguments are the options of `phonofilm generate`, in the same words (docs/memory.md, docs/speed.md). Weights are
    read when the first clip needs them, and kept until `close`. `loras`: a file, or several, as `--lora` takes them:
    "file:0.8". With `gpus` each clip is shared by as many processes, one on each device (docs/python.md).

    Raises InputError for a word that is unknown or a device that is not here, CheckpointError for a broken checkpoint.
    """
    hardware = HardwareOptions(
        device=str(device),
        dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        offload=offload,
        offload_to_disk=None if offload_to_disk is None else Path(offload_to_disk),
        vram_limit=vram_limit,
        ram_limit=ram_limit,
        slots=slots,
        resident_layers=resident_layers,
        vae_tiling=vae_tiling,
        gpus=gpus,
        ulysses_degree=ulysses_degree,
        ring_degree=ring_degree,
        cfg_parallel=cfg_parallel,
        shard_weights=shard_weights,
        attn_backend=attn_backend,
        kernels=kernels,
        quantize=quantize,
        compile=compile,
    )
    return open_session(open_checkpoint(str(model)), hardware, lora_texts(loras) or ())


def open_session(checkpoint: Checkpoint, hardware: HardwareOptions, loras: Sequence[str] = ()) -> Session:
    """A session of one device or, with `hardware.gpus`, of several. Raises InputError for devices that are not here."""
    several = parallel_config(hardware)
    if several is None:
        return Session(checkpoint, hardware, loras)
    from phonofilm.generation.shared_session import SharedSession  # which is a Session

    return SharedSession(checkpoint, hardware, loras, several)


class Session(ClipMaker):
    """A checkpoint on this machine, loaded once and kept: `with load("nano") as session: clip = session.generate("...")`."""

    def generate(
        self,
        prompt: str | Mapping[str, str] | None = None,
        *,
        on_progress: OnProgress | None = None,
        image: Picture | None = None,
        last_image: Picture | None = None,
        keyframes: Mapping[float, Picture] | None = None,
        image_fit: str | None = None,
        video: GivenClip | None = None,
        audio: GivenSound | None = None,
        voice: GivenSound | None = None,
        continue_from: GivenClip | None = None,
        overlap_frames: int | None = None,
        retake: tuple[float, float] | str | Sequence[tuple[float, float] | str] | None = None,
        retake_tracks: str | None = None,
        size: str | None = None,
        seconds: float | None = None,
        part_seconds: float | None = None,
        num_frames: int | None = None,
        fps: float | str | Fraction | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        audio_guidance_scale: float | None = None,
        modality_scale: float | Sequence[float] | str | None = None,
        guidance_interval: tuple[float, float] | str | None = None,
        solver: str | None = None,
        cache: str | None = None,
        negative_prompt: str | None = None,
        video_shift: float | None = None,
        audio_shift: float | None = None,
        boundary_ratio: float | None = None,
        loras: Loras | None = None,
        seed: int | None = None,
        like: str | Path | Clip | None = None,
    ) -> Clip:
        """Make a clip. The arguments are the options of `phonofilm generate`, in the same words (docs/generate.md).

        Pictures, clips and sounds may be paths or objects: PIL pictures, arrays, a Clip, (waveform, rate). `on_progress` is
        called with the events of generation/report.py. What made the clip is in its `metadata`. `like`: a clip to repeat, or
        its file; the other arguments change what they say.

        Raises InputError for a request that cannot be met, before anything long runs; Cancelled when `on_progress` says so.
        """
        plan = self.plan(
            prompt,
            image=image,
            last_image=last_image,
            keyframes=keyframes,
            image_fit=image_fit,
            video=video,
            audio=audio,
            voice=voice,
            continue_from=continue_from,
            overlap_frames=overlap_frames,
            retake=retake,
            retake_tracks=retake_tracks,
            size=size,
            seconds=seconds,
            part_seconds=part_seconds,
            num_frames=num_frames,
            fps=fps,
            steps=steps,
            guidance_scale=guidance_scale,
            audio_guidance_scale=audio_guidance_scale,
            modality_scale=modality_scale,
            guidance_interval=guidance_interval,
            solver=solver,
            cache=cache,
            negative_prompt=negative_prompt,
            video_shift=video_shift,
            audio_shift=audio_shift,
            boundary_ratio=boundary_ratio,
            loras=loras,
            seed=seed,
            like=like,
        )
        return self.make(plan, on_progress or silent)

    def read_weights(self) -> None:
        """Read them now rather than with the first clip, with room for one as the model makes it where nothing else is asked."""
        self.resolve([self.plan_options(ClipOptions(prompt="a red ball"))])
        self.pipeline_with(self.checkpoint.loras.take(self.loras))

    def make(self, plan: ClipPlan, on_progress: OnProgress = silent) -> Clip:
        """Make the clip of a plan of this session. Raises Cancelled when `on_progress` says so."""
        self.resolve([plan], on_progress)
        out = self.run(plan, on_progress)
        return out.clips([self.metadata(plan, out)])[0]

    def plan(
        self,
        prompt: str | Mapping[str, str] | None = None,
        *,
        image: Picture | None = None,
        last_image: Picture | None = None,
        keyframes: Mapping[float, Picture] | None = None,
        image_fit: str | None = None,
        video: GivenClip | None = None,
        audio: GivenSound | None = None,
        voice: GivenSound | None = None,
        continue_from: GivenClip | None = None,
        overlap_frames: int | None = None,
        retake: tuple[float, float] | str | Sequence[tuple[float, float] | str] | None = None,
        retake_tracks: str | None = None,
        size: str | None = None,
        seconds: float | None = None,
        part_seconds: float | None = None,
        num_frames: int | None = None,
        fps: float | str | Fraction | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        audio_guidance_scale: float | None = None,
        modality_scale: float | Sequence[float] | str | None = None,
        guidance_interval: tuple[float, float] | str | None = None,
        solver: str | None = None,
        cache: str | None = None,
        negative_prompt: str | None = None,
        video_shift: float | None = None,
        audio_shift: float | None = None,
        boundary_ratio: float | None = None,
        loras: Loras | None = None,
        seed: int | None = None,
        like: str | Path | Clip | None = None,
    ) -> ClipPlan:
        """The plan of a clip, checked; `str(plan)` is the line that `phonofilm generate` prints. Loads no weights."""
        media = {
            "image": image,
            "last_image": last_image,
            "video": video,
            "audio": audio,
            "voice": voice,
            "continue_from": continue_from,
        }
        files = {name: str(one) for name, one in media.items() if is_file(one)}
        shown = picture_times(keyframes)
        words: dict[str, Any] = {
            **files,
            "prompt": prompt,
            "keyframe": [f"{time}={one}" for time, one in shown.items() if is_file(one)] or None,
            "image_fit": image_fit,
            "overlap_frames": overlap_frames,
            "retake": retake,
            "retake_tracks": retake_tracks,
            "size": size,
            "seconds": seconds,
            "part_seconds": part_seconds,
            "num_frames": num_frames,
            "fps": fps,
            "steps": steps,
            "guidance_scale": guidance_scale,
            "audio_guidance_scale": audio_guidance_scale,
            "modality_scale": modality_scale,
            "guidance_interval": guidance_interval,
            "solver": solver,
            "cache": cache,
            "negative_prompt": negative_prompt,
            "video_shift": video_shift,
            "audio_shift": audio_shift,
            "boundary_ratio": boundary_ratio,
            "lora": lora_texts(loras),
            "seed": seed,
        }
        in_memory: dict[str, Any] = {name: one for name, one in media.items() if name not in files}
        in_memory["keyframes"] = {time: one for time, one in shown.items() if not is_file(one)}
        options = options_from_json({name: plain_value(value) for name, value in words.items()}, "generate")
        if like is not None:
            provenance = provenance_of(clip_to_repeat(like), options)
            if provenance.fingerprint != self.checkpoint.fingerprint:
                raise InputError(
                    f"{like} was made with {provenance.model}, another checkpoint than this session's "
                    f"({self.checkpoint.portable_name}); load that one to repeat it"
                )
            provenance.check_student(self.checkpoint)
            options = options.over(provenance.options)
        plan = self.plan_options(options, MediaInMemory(**in_memory))
        return replace(plan, line=self.line(plan))
