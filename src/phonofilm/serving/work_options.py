"""What workers serve, as it was given to `phonofilm serve`, `worker` or `studio`, and the settings that come of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib.util import find_spec

from phonofilm.errors import InputError, MissingExtraError
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.serving.engines.engine_settings import engine_settings
from phonofilm.serving.settings import (
    DEFAULT_DATABASE,
    DEFAULT_STORE,
    RequestLimits,
    WorkerSettings,
    parse_loras,
    parse_models,
)
from phonofilm.units import parse_size
from phonofilm.writing.first_frame_options import first_frame_options
from phonofilm.writing.writing_endpoint import writing_endpoint


@dataclass(frozen=True)
class WorkOptions:
    """Options by their names on the command line.

    max_upload: an amount such as "256MB". max_seconds: of a clip that is made, and of clips and sounds that are sent.
    log_format: text or json.
    """

    model: tuple[str, ...] | None = None
    database_url: str | None = None
    store: str | None = None
    lora: tuple[str, ...] | None = None
    loaded_models: int = 1
    writing_endpoint: str | None = None
    writing_model: str | None = None
    first_frame_from: str | None = None
    first_frame_model: str | None = None
    engine: str | None = None
    engine_url: str | None = None
    allow_urls: bool = False
    max_upload: str = "256MB"
    max_seconds: float = RequestLimits.max_seconds
    log_format: str = "text"


def worker_settings(given: WorkOptions, hardware: HardwareOptions, keep: str) -> WorkerSettings:
    """The settings of workers; `keep` is a span such as "7d", or "forever". Raises InputError for one that cannot be."""
    kept = seconds_kept(keep)
    if not 0 < given.max_seconds < math.inf:
        raise InputError(f"--max-seconds {given.max_seconds:g} is no length of a clip; use for example 60")
    limits = RequestLimits(max_seconds=given.max_seconds, max_upload_bytes=parse_size(given.max_upload, "max_upload"))
    writing = writing_endpoint(given.writing_endpoint, given.writing_model)
    if given.log_format not in ("text", "json"):
        raise InputError(f"log format {given.log_format!r} is unknown; use text or json")
    models = parse_models(given.model or ["nano"])
    return WorkerSettings(
        models=models,
        database_url=given.database_url or DEFAULT_DATABASE,
        store=given.store or DEFAULT_STORE,
        hardware=hardware,
        loras=parse_loras(given.lora or ()),
        loaded_models=given.loaded_models,
        keep=kept,
        allow_urls=given.allow_urls,
        limits=limits,
        log_json=given.log_format == "json",
        writing=writing,
        first_frames=first_frame_options(given.first_frame_from, given.first_frame_model),
        engine=engine_settings(given.engine, given.engine_url, models),
    )


def seconds_kept(text: str) -> float | None:
    """ "12h" -> 43200.0, "forever" -> None. Raises InputError."""
    if text == "forever":
        return None
    match = re.fullmatch(r"(\d{1,6})([mhd])", text)
    if match is None:
        raise InputError(f"--keep {text!r} is no span of time; use for example 30m, 12h, 7d or forever")
    return int(match[1]) * {"m": 60.0, "h": 3600.0, "d": 86_400.0}[match[2]]


def require_serve_extra() -> None:
    """Raises MissingExtraError for the first package of the extra `serve` that is not installed."""
    for package in ("fastapi", "uvicorn", "sqlalchemy", "alembic", "multipart", "sse_starlette", "prometheus_client"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "serve")
