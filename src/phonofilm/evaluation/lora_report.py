"""The report of a LoRA: its clips made, compared (lora_compare.py), and written as a page (lora_page.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError
from phonofilm.evaluation.lora_compare import ComparisonRequest, compare
from phonofilm.evaluation.lora_page import lora_verdicts, write_page
from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.placement.attention import attention_of
from phonofilm.generation.placement.devices import explaining_memory
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.report import OnProgress, StageStarted, emit
from phonofilm.generation.session import Session


@dataclass(frozen=True)
class ReportRequest:
    """A LoRA as `--lora` takes it, the model, and what to make: every prompt with every seed. `call`: arguments of the
    pipeline, None where the model's own are meant."""

    lora: str
    model: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    call: Mapping[str, Any]


def report_lora(
    request: ReportRequest, hardware: HardwareOptions, output: Path, show: OnProgress
) -> tuple[list[str], Path]:
    """The verdicts, one a line, and the page."""
    checkpoint = open_checkpoint(request.model)
    session = Session(checkpoint, hardware)
    (use,) = checkpoint.loras.take([request.lora]) or (None,)
    if use is None:
        raise InputError("name a LoRA; none has nothing to report on")

    def on_progress(name: str, at: int, of: int) -> None:
        emit(show, StageStarted(f"clips {at + 1} of {of}: {name}"))

    wanted = ComparisonRequest(request.prompts, request.seeds, request.call)
    with attention_of(session.placement), explaining_memory(session.placement):
        comparison = compare(session.pipeline, use.lora, wanted, use.strength, on_progress)
    about = {
        "LoRA": use.metadata(),
        "layout": str(use.lora.layout),
        **use.lora.metadata,
        "model": checkpoint.portable_name,
        "fingerprint": checkpoint.fingerprint,
        "dtype": session.placement.dtype_name,
        "seeds": list(request.seeds),
        **{key: value for key, value in request.call.items() if value is not None},
    }
    page = write_page(comparison, output, f"What {use.path.name} changes", about)
    return lora_verdicts(comparison), page


def prompt_lines(text: str) -> list[str]:
    """The prompt itself, or the lines of a file. Raises InputError for a file without any, and for an empty prompt."""
    file = Path(text)
    lines = [text]
    if file.suffix == ".txt":
        if not file.is_file():
            raise InputError(f"there is no file {file}; give prompts, or a text file with one a line")
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError(f"{text!r} holds no prompt; say what should be seen and heard")
    return found
