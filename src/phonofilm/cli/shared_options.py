"""Options that several commands have, declared once. Those about hardware: machine_options.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Option("--model", "-m", help="Checkpoint folder, hub id, nano, 360p or 720p.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Sampling steps.  [default: the model's]")]
NewFolder = Annotated[Path, typer.Option("--output", "-o", help="A new folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
