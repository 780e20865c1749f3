"""The options that `phonofilm serve`, `worker` and `studio` share, once: what is served, and where jobs and files are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from phonofilm.errors import InputError

if TYPE_CHECKING:
    from phonofilm.generation.placement.hardware import HardwareOptions
    from phonofilm.serving.settings import WorkerSettings

DATABASE_HELP = "sqlite:///FILE or postgresql://... [default: phonofilm-jobs/jobs.db]"
DatabaseUrl = Annotated[str | None, Option(envvar="PHONOFILM_DATABASE_URL", help=DATABASE_HELP)]
Keep = Annotated[str, Option(metavar="7d", help="How long clips are kept: 12h, 7d, or forever.")]

Runs = Annotated[
    list[Path] | None, Option("--runs", metavar="DIR", help="Training runs to follow in the studio; may be repeated.")
]
Imports = Annotated[
    list[Path] | None, Option("--import", metavar="DIR", help="Clips the studio may bring in; may be repeated.")
]


@dataclass(frozen=True)
class WorkFlags:
    """What workers serve, and what they share with servers. The last three matter where jobs come from other people."""

    model: list[str] | None = None
    database_url: str | None = None
    store: str | None = None
    lora: list[str] | None = None
    loaded_models: int = 1
    writing_endpoint: str | None = None
    writing_model: str | None = None
    engine: str | None = None
    engine_url: str | None = None
    allow_urls: bool = False
    max_upload: str = "256MB"
    log_format: str = "text"


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
}
OTHERS = {
    "engine": Option(metavar="phonofilm|sglang", help="Who makes the clips. [default: phonofilm]"),
    "engine_url": Option(metavar="URL", help="Where the engine's server is."),
    "allow_urls": Option("--allow-urls", help="Fetch inputs from public addresses."),
    "max_upload": Option(metavar="256MB", help="Largest request, and largest file that is fetched."),
    "log_format": Option(help="text or json."),
}
WritingEndpointUrl = Annotated[str | None, OWN["writing_endpoint"]]
WritingModel = Annotated[str | None, OWN["writing_model"]]
OwnWork = Annotated[WorkFlags, OWN]
Work = Annotated[WorkFlags, OWN | OTHERS]


def settings_of(work: WorkFlags, machine: HardwareOptions, keep: str) -> WorkerSettings:
    """The settings of workers. Raises InputError for one that cannot be."""
    from phonofilm.serving.settings import worker_settings
    from phonofilm.units import parse_size
    from phonofilm.writing.writing_endpoint import writing_endpoint

    return worker_settings(
        work.model, work.lora, work.database_url, work.store, machine,
        keep=_seconds_kept(keep), loaded_models=work.loaded_models, allow_urls=work.allow_urls,
        max_upload=parse_size(work.max_upload, "max_upload"), log_format=work.log_format,
        writing=writing_endpoint(work.writing_endpoint, work.writing_model), engine=work.engine, engine_url=work.engine_url,
    )  # fmt: skip


def _seconds_kept(text: str) -> float | None:
    """The value of --keep in seconds; None for ever. Raises InputError."""
    if text == "forever":
        return None
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None:
        raise InputError(f"--keep {text!r} is no span of time; use for example 12h, 7d or forever")
    return int(match[1]) * {"m": 60.0, "h": 3600.0, "d": 86_400.0}[match[2]]
