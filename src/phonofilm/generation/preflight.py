"""What is wrong with a request, as far as that can be seen before PyTorch is imported. Opens no picture, sound or network.

The full checks come later and are the same ones; this is the part of them that costs a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.generation.options import (
    ClipOptions,
    check_options,
    clip_count,
    parse_interval,
    parse_keyframe,
    parse_scales,
)
from phonofilm.generation.outputs import Output, choose_outputs
from phonofilm.generation.provenance import INPUTS
from phonofilm.generation.written_files import would_harm
from phonofilm.geometry import parse_frame_rate, parse_frame_size
from phonofilm.models.known import NAMED_SIZES, hub_id_of
from phonofilm.pipeline.sampling_limits import RANGES, check_interval, check_range, check_solver, parse_cache
from phonofilm.untrusted import FOLDER_FAULT, NO_FILE_FAULT, file_fault, shown


@dataclass(frozen=True)
class Request:
    """What is known of a request at once: the model's name, and where its clips will go; none for a file of prompts."""

    model: str
    outputs: tuple[Output, ...] = ()

    @property
    def line(self) -> str:
        """The first line of a run."""
        names = [str(output.path) for output in self.outputs]
        where = f"{names[0]} to {names[-1]}" if len(names) > 1 else "".join(names)
        return f"{self.model}{f' makes {where}' if where else ''}: starting PyTorch"


def check_request(
    options: ClipOptions,
    model: str | None,
    *,
    like: Path | None = None,
    prompts: Path | None = None,
    overwrite: bool = False,
) -> Request:
    """Raises InputError for an empty prompt, a missing file, an output that exists or an unknown model."""
    for name, path in [*_given_files(options), ("like", like), ("prompts", prompts)]:
        # A clip may be a folder of frames, so only that something is there is checked here.
        expected = (None,) if name == "prompts" else (None, FOLDER_FAULT)
        if path is not None and (fault := file_fault(path)) not in expected:
            reason = "" if fault == NO_FILE_FAULT else f": {fault}"
            raise InputError(f"{name}: no file at {shown(path)}{reason}")
    if model is not None:
        check_model_name(model)
    check_words(options)
    if prompts is not None:
        return Request(f"the lines of {prompts}")
    if like is None:
        check_options(options)
        outputs = choose_outputs_of(options, overwrite)
        if model is not None and overwrite:
            refuse_harm(outputs, Path(model).expanduser(), "the model's folder")
        return Request(model or "nano", outputs)
    return Request(f"again {like}", choose_outputs_of(options, overwrite) if options.output is not None else ())


def check_words(options: ClipOptions) -> None:
    """Raises InputError for a size, a rate, an interval, scales, a solver or a cache that cannot be, and for steps below 1."""
    if options.size is not None and options.size not in (*NAMED_SIZES, "auto"):
        parse_frame_size(options.size, (*NAMED_SIZES, "auto"))
    if options.fps is not None:
        parse_frame_rate(options.fps)
    if options.guidance_interval is not None:
        check_interval(*parse_interval(options.guidance_interval))
    if options.modality_scale is not None:
        scales = parse_scales(options.modality_scale)
        for scale in scales if isinstance(scales, tuple) else (scales,):
            check_range("modality_scale", scale)
    for name in (name for name in RANGES if name != "modality_scale"):
        if (value := getattr(options, name)) is not None:
            check_range(name, value)
    if options.solver is not None:
        check_solver(options.solver)
    if options.cache is not None:
        parse_cache(options.cache)
    if options.steps is not None and options.steps < 1:
        raise InputError(f"steps {options.steps} is less than 1; use for example 50")


def choose_outputs_of(options: ClipOptions, overwrite: bool) -> tuple[Output, ...]:
    """The outputs that the options ask for; with --like the recorded ones may still be added.

    Raises InputError as `choose_outputs` does, and for one that would replace a file that the clip is made from.
    """
    outputs = choose_outputs(options.output, options.output_type, clip_count(options), overwrite, options.contact_sheet)
    read = _given_files(options)
    for one in options.lora or ():
        read.append(("lora", _lora_file(one)))
    for name, path in read:
        refuse_harm(outputs, path, f"which it is made from ({name}), and could never be repeated")
    return outputs


def refuse_harm(outputs: Sequence[Output], read: Path, what: str) -> None:
    """Raises InputError for an output that would change a file or folder that is read, or lie in such a folder."""
    for output in outputs:
        for name, file in (("clip", output.path), ("contact sheet", output.contact_sheet)):
            if file is not None and would_harm(file, read):
                raise InputError(f"the {name} would replace or change {shown(read)}, {what}; choose another output")


def _lora_file(text: str) -> Path:
    """The file of "FILE" or "FILE:STRENGTH"; a strength is checked later, when the file is read."""
    return Path(text if file_fault(Path(text)) is None else text.rpartition(":")[0] or text)


def _given_files(options: ClipOptions) -> list[tuple[str, Path]]:
    """The files that a clip is made from, with the option that names each."""
    named = [(name, getattr(options, name)) for name in INPUTS if getattr(options, name) is not None]
    return [*named, *(("keyframe", parse_keyframe(one)[1]) for one in options.keyframe or ())]


def check_model_name(name: str) -> None:
    """Raises InputError unless `name` is a folder, a short name, or looks like a hub id. Asks no network."""
    if not name.strip():
        raise InputError("the model's name is empty; leave the option out for nano, or name one")
    if name == "nano" or file_fault(Path(name).expanduser()) == FOLDER_FAULT:
        return
    if name.startswith((".", "/", "~")):
        raise InputError(f"{shown(name)!r} is no model: there is no such folder")
    hub_id_of(name)
