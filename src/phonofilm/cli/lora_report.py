"""`phonofilm lora report`: did a LoRA learn, and where. Only glue; docs/lora.md explains the page it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phonofilm.cli.shared_options import Device, Dtype, Model, Steps


def report(
    lora: Annotated[str, typer.Argument(metavar="LORA[:STRENGTH]", help="A LoRA as --lora takes it.")],
    prompts: Annotated[
        list[str], typer.Option("--prompts", help="A prompt, or a text file with one a line. May be repeated.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the page, its pictures, clips and JSON.")],
    model: Model = "nano",
    seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per prompt.")] = 1,
    steps: Steps = None,
    num_frames: Annotated[int | None, typer.Option(help="Length in frames: 1 + 4k.  [default: the model's]")] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    offload: Annotated[str, typer.Option(help="Where weights wait: none, model, layer or group.")] = "none",
) -> None:
    """Compare clips without a LoRA, with it, and with each of its parts alone: pictures, sounds, figures, verdicts."""
    from phonofilm.cli.progress import open_display
    from phonofilm.evaluation.lora_report import ReportRequest, prompt_lines, report_lora
    from phonofilm.generation.placement.hardware import HardwareOptions

    lines = tuple(line for text in prompts for line in prompt_lines(text))
    call = {"num_inference_steps": steps, "num_frames": num_frames}
    request = ReportRequest(lora, model, lines, tuple(range(seed, seed + seeds)), call)
    with open_display() as show:
        verdicts, page = report_lora(request, HardwareOptions(device, dtype, offload), output, show)
    for line in (*verdicts, page):
        typer.echo(line)
