"""First frames drawn for clips that have none, each in a file beside its clip, so that the clip can be repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.preflight import choose_outputs_of
from phonofilm.generation.report import Message, OnProgress, StageStarted, emit
from phonofilm.untrusted import shown
from phonofilm.writing.first_frame_options import FirstFrameOptions

# What a clip begins with where it has one of these: then no frame is drawn.
BEGINS_WITH = ("image", "video", "continue_from", "voice")


def draw_first_frame(
    drawing: FirstFrameOptions, options: ClipOptions, overwrite: bool, on_progress: OnProgress
) -> ClipOptions:
    """The options of a clip with a picture drawn from its prompt, or as they were where the clip begins with something.

    A picture that is there already, drawn from the same prompt by the same model, is used again. Raises PhonofilmError.
    """
    if options.prompt is None or not _wants(options):
        return options
    from PIL import Image

    from phonofilm.writing.first_frame import frame_source, write_first_frame

    target, size = _file_of(options), None if options.size == "auto" else options.size
    drawn_from = {"prompt": options.prompt, "size": size or "", "seed": str(options.seed), **_about(drawing)}
    if target.exists() and not overwrite:
        with Image.open(target) as picture:
            if {name: picture.info.get(name) for name in drawn_from} == drawn_from:
                return with_frame_of(options)
        raise InputError(
            f"{shown(target)} is there already, drawn for something else; move it, or replace it (overwrite=True)"
        )
    emit(on_progress, StageStarted(f"draw a first frame ({drawing.source})"))
    write_first_frame(frame_source(drawing), options.prompt, target, size, options.seed, drawn_from)
    emit(on_progress, Message(f"the first frame is {target}"))
    return with_frame_of(options)


def with_frame_of(options: ClipOptions) -> ClipOptions:
    """The options with the picture that was drawn for their clip as first frame, if one was."""
    return replace(options, image=_file_of(options)) if _wants(options) and _file_of(options).exists() else options


def _wants(options: ClipOptions) -> bool:
    return all(getattr(options, name) is None for name in BEGINS_WITH)


def _file_of(options: ClipOptions) -> Path:
    """NAME-first-frame.png beside the clip NAME.mp4; several clips of one prompt begin with the same."""
    path = choose_outputs_of(replace(options, num_clips=None), overwrite=True)[0].path
    return path.with_name(f"{path.stem}-first-frame.png")


def _about(drawing: FirstFrameOptions) -> dict[str, str]:
    return {"source": drawing.source, "model": drawing.model or ""}
