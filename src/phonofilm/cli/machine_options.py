"""The options about hardware, once, for the commands that hold a model for long: serve and worker."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

hardware = partial(typer.Option, rich_help_panel="Hardware")

Device = Annotated[str, hardware(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str | None, hardware(help="auto, float32, bfloat16 or float16.")]
Offload = Annotated[str, hardware(help="Where weights wait: auto, none, model or layer.")]
OffloadToDisk = Annotated[Path | None, hardware(metavar="DIR", help="With layers: let them wait in files here.")]
VramLimit = Annotated[str | None, hardware(metavar="12GB", help="Device memory to plan with.")]
RamLimit = Annotated[str | None, hardware(metavar="64GB", help="Host memory to plan with.")]
Quantize = Annotated[str | None, hardware(help="Fewer bits for the weights: fp8, int8 or nf4. Lossy.")]
AttnBackend = Annotated[str | None, hardware(help="Attention backend; phonofilm doctor lists them.")]
Compile = Annotated[bool, hardware("--compile", help="torch.compile the layers.")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", metavar="[NAME=]MODEL", help="nano, 360p, a folder, ...; may be repeated. [default: nano]"
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="[NAME=]FILE|DIR", help="LoRAs that requests may name; may be repeated."),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="PHONOFILM_DATABASE_URL", help="sqlite:///FILE or postgresql://... [default: phonofilm-jobs/jobs.db]"
    ),
]
StorePlace = Annotated[
    str | None,
    typer.Option("--store", metavar="DIR|s3://...", help="Where files are kept. [default: phonofilm-jobs/files]"),
]
Keep = Annotated[str, typer.Option(metavar="7d", help="How long clips are kept: 12h, 7d, or forever.")]
LoadedModels = Annotated[int, typer.Option(min=1, help="Models kept in memory at once.")]
WritingEndpointUrl = Annotated[
    str | None,
    typer.Option(envvar="PHONOFILM_WRITING_ENDPOINT", metavar="URL", help="OpenAI-compatible; rewrites prompts."),
]
WritingModel = Annotated[
    str | None, typer.Option(envvar="PHONOFILM_WRITING_MODEL", help="The writing endpoint's model.")
]
AllowUrls = Annotated[bool, typer.Option("--allow-urls", help="Fetch inputs from public addresses.")]
LogFormat = Annotated[str, typer.Option(help="text or json.")]
Engine = Annotated[
    str | None, typer.Option(metavar="phonofilm|sglang", help="Who makes the clips. [default: phonofilm]")
]
EngineUrl = Annotated[str | None, typer.Option(metavar="URL", help="Where the engine's server is.")]
Runs = Annotated[
    list[Path] | None,
    typer.Option("--runs", metavar="DIR", help="Training runs to follow in the studio; may be repeated."),
]
Imports = Annotated[
    list[Path] | None,
    typer.Option("--import", metavar="DIR", help="Clips the studio may bring in; may be repeated."),
]
