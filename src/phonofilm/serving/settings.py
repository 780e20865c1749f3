"""What `phonofilm serve` and `phonofilm worker` were asked to do; travels to worker processes as JSON. Needs no extra."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from phonofilm.errors import CheckpointError, InputError
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.preflight import check_model_name
from phonofilm.lora.glance import check_looks_like_lora
from phonofilm.lora.strength import NO_LORA
from phonofilm.serving.engines.engine_settings import EngineSettings
from phonofilm.writing.first_frame_options import FirstFrameOptions
from phonofilm.writing.writing_endpoint import WritingEndpoint

logger = logging.getLogger(__name__)

DEFAULT_DATABASE = "sqlite:///phonofilm-jobs/jobs.db"
DEFAULT_STORE = "phonofilm-jobs/files"
DAY = 86_400.0


@dataclass(frozen=True)
class RequestLimits:
    """What one request may ask for, and what clips and sounds that are sent may be.

    max_pixel_frames: pixels of a frame times frames. max_upload_bytes: of one whole request, and of a file that is fetched.
    """

    max_seconds: float = 60.0
    max_steps: int = 200
    max_side: int = 2048
    max_pixel_frames: int = 1280 * 720 * 24 * 60
    max_clips: int = 8
    max_prompt_characters: int = 10_000
    max_upload_bytes: int = 256 * 2**20


@dataclass(frozen=True)
class WorkerSettings:
    """What workers need to know.

    models: what `load` takes, by the name that clients say. limits: of requests and of what is sent with them.
    loras: LoRA files by the name that clients say.
    loaded_models: sessions kept at once; the one used longest ago makes room. switch_after: seconds that a job may wait for
    its model to be loaded while jobs of a loaded one go first. keep: seconds that clips are kept, None for ever. grace:
    seconds that a running clip has when the worker is asked to stop. start: seconds that a worker of a server may start without
    a sign of life. stall: seconds without a sign of progress after which a clip is given up. cancel: seconds after which a
    worker of a server whose step goes on for a cancelled job is replaced. writing, first_frames: who rewrites
    prompts and draws first frames; None where that is not offered. engine: who makes the clips, if not this process.
    keeps_store: the store's files are the database's; of a command's own jobs it is the folder where their names begin.
    """

    models: dict[str, str]
    database_url: str = DEFAULT_DATABASE
    store: str = DEFAULT_STORE
    hardware: HardwareOptions = field(default_factory=HardwareOptions)
    limits: RequestLimits = field(default_factory=RequestLimits)
    loras: dict[str, str] = field(default_factory=dict)
    loaded_models: int = 1
    switch_after: float = 60.0
    keep: float | None = 7 * DAY
    lease: float = 30.0
    grace: float = 30.0
    start: float = 600.0
    stall: float = 3600.0
    cancel: float = 180.0
    allow_urls: bool = False
    log_json: bool = False
    writing: WritingEndpoint | None = None
    engine: EngineSettings | None = None
    first_frames: FirstFrameOptions | None = None
    keeps_store: bool = True

    @property
    def default_model(self) -> str:
        return next(iter(self.models))

    def to_json(self) -> dict[str, Any]:
        content = asdict(self)
        if self.hardware.offload_to_disk is not None:
            content["hardware"]["offload_to_disk"] = str(self.hardware.offload_to_disk)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> WorkerSettings:
        hardware = dict(content["hardware"])
        if hardware["offload_to_disk"] is not None:
            hardware["offload_to_disk"] = Path(hardware["offload_to_disk"])
        writing = None if content["writing"] is None else WritingEndpoint(**content["writing"])
        engine = None if content["engine"] is None else EngineSettings(**content["engine"])
        frames = None if content["first_frames"] is None else FirstFrameOptions(**content["first_frames"])
        parsed = {
            "hardware": HardwareOptions(**hardware),
            "limits": RequestLimits(**content["limits"]),
            "writing": writing,
            "engine": engine,
            "first_frames": frames,
        }
        return cls(**{**content, **parsed})


def parse_models(given: Sequence[str]) -> dict[str, str]:
    """ "360p", "owner/name", "folder" or "name=folder" each -> what to load, by name. Raises InputError."""
    models: dict[str, str] = {}
    for text in given:
        name, equals, source = text.partition("=")
        if not equals:
            name, source = Path(text).name if Path(text).is_dir() else text, text
        check_model_name(source)
        _check_name("model", name, r"[\w.\-/]{1,200}")
        if name in models:
            raise InputError(f"two models are named {name!r}; write one as NAME={source}")
        models[name] = source
    if not models:
        raise InputError("no model was given; use for example --model nano")
    return models


def parse_loras(given: Sequence[str]) -> dict[str, str]:
    """ "file.safetensors", "name=file" or a folder of files each -> LoRA files by name.

    Of a folder, files that are no LoRA are left out, and named in the log. Raises InputError for what is not there,
    CheckpointError for a file that is no LoRA.
    """
    loras: dict[str, str] = {}
    for text in given:
        name, equals, file = text.partition("=")
        path = Path(file if equals else text)
        if not equals and path.is_dir():
            found = {one.stem: one for one in sorted(path.glob("*.safetensors")) if _is_lora(one)}
        else:
            found = {name if equals else path.stem: path}
        for stem, one in found.items():
            if not one.is_file():
                raise InputError(f"no LoRA at {one}; give a file, NAME=FILE, or a folder of .safetensors files")
            check_looks_like_lora(one)
            _check_name("LoRA", stem, r"[\w.\-]{1,100}")
            if stem == NO_LORA:
                raise InputError(
                    f"a LoRA named {stem!r} could not be asked for: requests mean none at all; write NAME={one}"
                )
            if stem in loras:
                raise InputError(f"two LoRAs are named {stem!r}; write one as NAME={one}")
            loras[stem] = str(one.absolute())
    return loras


def _is_lora(file: Path) -> bool:
    try:
        check_looks_like_lora(file)
    except CheckpointError as error:
        logger.warning("not offered as a LoRA: %s", error)
        return False
    return True


def _check_name(what: str, name: str, pattern: str) -> None:
    if re.fullmatch(pattern, name) is None:
        raise InputError(f"the {what} name {name!r:.100} may hold letters, digits, dots, dashes and underscores")


def existing_folders(option: str, given: Sequence[Path] | None) -> tuple[Path, ...]:
    """Folders that an option names. Raises InputError for one that is not there."""
    for one in given or ():
        if not one.is_dir():
            raise InputError(f"--{option} {one} is no folder; name one that is there")
    return tuple(one.absolute() for one in given or ())
