"""The options that `phonofilm serve`, `worker` and `studio` share, once: what is served, and where jobs and files are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from phonofilm.serving.work_options import WorkOptions
from phonofilm.writing.first_frame_options import FirstFrameWords

DATABASE_HELP = "sqlite:///FILE or postgresql://... [default: phonofilm-jobs/jobs.db]"
DatabaseUrl = Annotated[str | None, Option(envvar="PHONOFILM_DATABASE_URL", help=DATABASE_HELP)]
Keep = Annotated[str, Option(metavar="7d", help="How long clips are kept: 12h, 7d, or forever.")]

Runs = Annotated[
    list[Path] | None, Option("--runs", metavar="DIR", help="Training runs to follow in the studio; may be repeated.")
]
Imports = Annotated[
    list[Path] | None, Option("--import", metavar="DIR", help="Clips the studio may bring in; may be repeated.")
]


OWN = {
    "model": Option("--model", "-m", metavar="[NAME=]MODEL", help="nano, 360p, ...; may be repeated. [default: nano]"),
    "database_url": Option(envvar="PHONOFILM_DATABASE_URL", help=DATABASE_HELP),
    "store": Option("--store", metavar="DIR|s3://...", help="Where files are kept. [default: phonofilm-jobs/files]"),
    "lora": Option("--lora", metavar="[NAME=]FILE|DIR", help="LoRAs that requests may name; may be repeated."),
    "loaded_models": Option(min=1, help="Models kept in memory at once."),
    "writing_endpoint": Option(
        envvar="PHONOFILM_WRITING_ENDPOINT", metavar="URL", help="Rewrites prompts (OpenAI's API)."
    ),
    "writing_model": Option(envvar="PHONOFILM_WRITING_MODEL", help="The writing endpoint's model."),
    "first_frame_from": Option(
        metavar="URL|MODEL", help="Draws first frames: an images endpoint, or a diffusers model."
    ),
    "first_frame_model": Option(help="The images endpoint's model."),
}
OTHERS = {
    "engine": Option(metavar="phonofilm|sglang", help="Who makes the clips. [default: phonofilm]"),
    "engine_url": Option(metavar="URL", help="Where the engine's server is."),
    "allow_urls": Option("--allow-urls", help="Fetch inputs from public addresses."),
    "max_upload": Option(metavar="256MB", help="Largest request, and largest file that is fetched."),
    "max_seconds": Option(help="Longest clip or sound that is made, or taken."),
    "log_format": Option(help="text or json."),
}
WritingEndpointUrl = Annotated[str | None, OWN["writing_endpoint"]]
WritingModel = Annotated[str | None, OWN["writing_model"]]
FirstFrames = Annotated[FirstFrameWords, {name: OWN[name] for name in ("first_frame_from", "first_frame_model")}]
OwnWork = Annotated[WorkOptions, OWN]
Work = Annotated[WorkOptions, OWN | OTHERS]
