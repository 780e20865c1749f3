"""Clips of a plan, made one by one and written to their files; each is written before the next begins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from phonofilm.files import replacing
from phonofilm.generation.clip_maker import ClipMaker
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.films.part_files import kept_account, open_parts
from phonofilm.generation.latent_files import save_latents
from phonofilm.generation.outputs import CONTAINERS, LATENT, Output
from phonofilm.generation.provenance import clip_metadata
from phonofilm.generation.report import OnProgress, StageStarted, emit
from phonofilm.generation.reservation import reserved
from phonofilm.generation.room import check_room
from phonofilm.media import save_clip
from phonofilm.media.sheet import contact_sheet
from phonofilm.pipeline.decode import MovaPipelineOutput

# What may differ between two runs that make the same parts.
NOT_DECIDING = ("offload",)


def make_clips(
    maker: ClipMaker,
    plan: ClipPlan,
    outputs: Sequence[Output],
    overwrite: bool,
    on_progress: OnProgress,
    remove_video_dit: bool = False,
) -> list[Path]:
    """One clip for each output, with consecutive seeds from the plan's. Returns the files that this process wrote.

    Raises InputError, before anything is made, when another process makes one of them.
    """
    files = [file for output in outputs for file in (output.path, output.contact_sheet) if file is not None]
    written = []
    with reserved(files, overwrite, maker.ranks):
        for index, output in enumerate(outputs):
            check_room(plan, outputs[index:], maker.checkpoint.layout.components["video_vae"].config["z_dim"])
            one = replace(plan, seed=plan.seed + index)
            kind = "latent" if output.kind == LATENT else "pil"
            kept = (
                open_parts(output.path, parts_account(one, maker), overwrite) if one.parts and maker.finishes else None
            )
            out = maker.run(one, on_progress, output_type=kind, remove_video_dit=remove_video_dit, kept=kept)
            if not maker.finishes:
                continue
            emit(on_progress, StageStarted(f"write {output.path}"))
            _write(one, out, maker.metadata(one, out), output, overwrite)
            if kept is not None:
                kept.remove()
            written.append(output.path)
    return written


def parts_account(plan: ClipPlan, maker: ClipMaker) -> dict[str, Any]:
    """What decides a clip that is made in parts: of a run that stopped, its parts are taken up only if all this is equal."""
    account = clip_metadata(plan, maker.checkpoint, maker.placement)
    return {key: value for key, value in account.items() if key not in NOT_DECIDING}


def with_kept_seed(plan: ClipPlan, outputs: Sequence[Output], maker: ClipMaker) -> ClipPlan:
    """The plan with the seed of the parts that an earlier run has left, unless they are of another clip."""
    for index, output in enumerate(outputs):
        found = kept_account(output.path)
        kept = None if found is None else found.get("seed")
        if isinstance(kept, int) and json.loads(json.dumps(parts_account(replace(plan, seed=kept), maker))) == found:
            return replace(plan, seed=kept - index)
    return plan


def _write(plan: ClipPlan, out: MovaPipelineOutput, metadata: dict[str, Any], output: Output, overwrite: bool) -> None:
    if output.kind == LATENT:
        save_latents(out.frames, out.audio, metadata, output.path)
        return
    (clip,) = out.clips([metadata])
    save_clip(
        clip,
        output.path,
        overwrite=overwrite,
        copy_audio_from=plan.sound_file,
        copy_video_from=plan.picture_file if output.kind in CONTAINERS else None,
    )
    if output.contact_sheet is not None:
        with replacing(output.contact_sheet) as temporary:
            contact_sheet(clip).save(temporary, format="PNG")
