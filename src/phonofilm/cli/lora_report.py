"""`phonofilm lora report`: did a LoRA learn, and where. Only glue; docs/lora.md explains the page it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phonofilm.errors import InputError


def report(
    lora: Annotated[str, typer.Argument(metavar="LORA[:STRENGTH]", help="A LoRA as --lora takes it.")],
    prompts: Annotated[
        list[str], typer.Option("--prompts", help="A prompt, or a text file with one a line. May be repeated.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the page, its pictures, clips and JSON.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Checkpoint folder, hub id, nano, 360p or 720p.")
    ] = "nano",
    seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per prompt.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.  [default: the model's]")] = None,
    num_frames: Annotated[int | None, typer.Option(help="Length in frames: 1 + 4k.  [default: the model's]")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    offload: Annotated[str, typer.Option(help="Where weights wait: none, model, layer or group.")] = "none",
) -> None:
    """Compare clips without a LoRA, with it, and with each of its parts alone: pictures, sounds, figures, verdicts."""
    from phonofilm.cli.progress import open_display
    from phonofilm.evaluation.lora_compare import ComparisonRequest, compare
    from phonofilm.evaluation.lora_page import lora_verdicts, write_page
    from phonofilm.generation.checkpoint import open_checkpoint
    from phonofilm.generation.placement.attention import attention_of
    from phonofilm.generation.placement.devices import explaining_memory
    from phonofilm.generation.placement.hardware import HardwareOptions
    from phonofilm.generation.report import StageStarted, emit
    from phonofilm.generation.session import Session

    lines = tuple(line for text in prompts for line in _prompts(text))
    checkpoint = open_checkpoint(model)
    session = Session(checkpoint, HardwareOptions(device, dtype, offload))
    (use,) = checkpoint.loras.take([lora]) or (None,)
    if use is None:
        raise InputError("name a LoRA; none has nothing to report on")
    call = {"num_inference_steps": steps, "num_frames": num_frames}
    request = ComparisonRequest(lines, tuple(range(seed, seed + seeds)), call)
    with open_display() as show, attention_of(session.placement), explaining_memory(session.placement):

        def on_progress(name: str, at: int, of: int) -> None:
            emit(show, StageStarted(f"clips {at + 1} of {of}: {name}"))

        comparison = compare(session.pipeline, use.lora, request, use.strength, on_progress)
    about = {
        "LoRA": use.metadata(),
        "layout": str(use.lora.layout),
        **use.lora.metadata,
        "model": checkpoint.portable_name,
        "fingerprint": checkpoint.fingerprint,
        "dtype": session.placement.dtype_name,
        "seeds": list(request.seeds),
        **{key: value for key, value in call.items() if value is not None},
    }
    page = write_page(comparison, output, f"What {use.path.name} changes", about)
    for line in lora_verdicts(comparison):
        typer.echo(line)
    typer.echo(page)


def _prompts(text: str) -> list[str]:
    """The prompt itself, or the lines of a file. Raises InputError for a file without any, and for an empty prompt."""
    file = Path(text)
    lines = [text]
    if file.suffix == ".txt":
        if not file.is_file():
            raise InputError(f"there is no file {file}; give prompts, or a text file with one a line")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError(f"{text!r} holds no prompt; say what should be seen and heard")
    return found
