"""Where models come from: short names, the hub and its local cache, the packaged one. Says what is here and fetches the rest."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)
from huggingface_hub.utils import tqdm

from phonofilm.errors import CheckpointError, InputError
from phonofilm.models.checkpoint_files import MODEL_INDEX, read_json, weight_files, weights_stem
from phonofilm.models.known import KNOWN_MODELS, hub_id_of
from phonofilm.units import format_size
from phonofilm.untrusted import FOLDER_FAULT, file_fault

logger = logging.getLogger(__name__)

# Weights as safetensors, configs, and the tokenizer's vocabulary: never a pickle, never code.
ALLOWED_FILES = ("*.safetensors", "*.json", "tokenizer/*.model")
PACKAGED_WEIGHTS = Path(__file__).parents[1] / "nano" / "weights"


@dataclass(frozen=True)
class LocalState:
    """What of a model is on this machine: its folder (None when nothing is) and the bytes it takes."""

    state: Literal["complete", "partial", "absent"]
    folder: Path | None
    nbytes: int


@dataclass(frozen=True)
class DownloadPlan:
    """What a download would fetch: files and bytes in all and still missing, where to, and the bytes free there."""

    hub_id: str
    commit: str
    files: int
    nbytes: int
    missing_files: int
    missing_bytes: int
    destination: Path
    free_bytes: int

    @property
    def summary(self) -> str:
        return (
            f"{self.hub_id}: {self.files} files, {format_size(self.nbytes)}; still to fetch: {self.missing_files} files, "
            f"{format_size(self.missing_bytes)}; into {self.destination} ({format_size(self.free_bytes)} free)"
        )


def known_model_rows() -> list[tuple[str, ...]]:
    """Every model with a short name: name, hub id, size, what of it is here, what it is."""
    rows: list[tuple[str, ...]] = []
    for model in KNOWN_MODELS:
        local = local_state(model.name)
        here = {"complete": "complete", "partial": f"part: {format_size(local.nbytes)}", "absent": "no"}[local.state]
        size = local.nbytes if local.state == "complete" else model.nbytes
        rows.append((model.name, model.hub_id or "in the package", format_size(size), here, model.about))
    return rows


def resolve_model(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """The checkpoint folder of a short name, a folder, or a hub id; downloads what the cache lacks.

    Short names win over folders of the same name (write ./360p for the folder). What is complete in the cache is used as
    it is, without asking the hub for a newer one: `download_model` does that. With `local_files_only` or HF_HUB_OFFLINE
    nothing is fetched. Raises InputError for what is no model, CheckpointError when it cannot be had.
    """
    name = str(name_or_path)
    if (folder := _outside_the_hub(name)) is not None:
        return folder
    hub_id = hub_id_of(name)
    cached = local_state(hub_id, revision=revision, cache_dir=cache_dir)
    if cached.state == "complete" and cached.folder is not None:
        return cached.folder
    if local_files_only or constants.is_offline_mode():
        raise CheckpointError(
            f"{hub_id} is {'only partly' if cached.state == 'partial' else 'not'} in the local cache, and downloading is "
            f"switched off; with a network run: phonofilm models download {name} (then it works offline)"
        )
    return download_model(name, revision=revision, cache_dir=cache_dir, token=token)


def local_state(name: str, *, revision: str | None = None, cache_dir: str | Path | None = None) -> LocalState:
    """What of a model is in the hub's cache (or, for nano, in the package). No network, and no weights are opened."""
    if name == "nano":
        nbytes = _size_of(PACKAGED_WEIGHTS)
        present = (PACKAGED_WEIGHTS / MODEL_INDEX).is_file()
        return LocalState("complete", PACKAGED_WEIGHTS, nbytes) if present else LocalState("absent", None, nbytes)
    hub_id = hub_id_of(name)
    cache = Path(cache_dir) if cache_dir is not None else Path(constants.HF_HUB_CACHE)
    nbytes = _size_of(cache / f"models--{hub_id.replace('/', '--')}" / "blobs")
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                hub_id,
                revision=revision,
                cache_dir=cache_dir,
                allow_patterns=list(ALLOWED_FILES),
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError as error:
        begun = getattr(error, "snapshot_path", None)  # only an incomplete snapshot has one
        return LocalState("partial" if nbytes else "absent", None if begun is None else Path(begun), nbytes)
    except HFValidationError as error:
        raise InputError(f"{name!r} is no hub id: {error}") from error
    return LocalState("complete" if _has_all_weights(folder) else "partial", folder, nbytes)


def is_on_this_machine(name: str) -> bool:
    """Whether a model can be opened without fetching anything. Raises InputError for what is no model."""
    return _outside_the_hub(name) is not None or local_state(name).state == "complete"


def local_checkpoint(name: str) -> Path:
    """The folder of a model that is on this machine, whole or not. Raises CheckpointError when nothing of it is."""
    if (folder := _outside_the_hub(name)) is not None:
        return folder
    local = local_state(name)
    if local.folder is None:
        raise CheckpointError(
            f"{name} is not in the local cache, or not far enough; run: phonofilm models download {name}"
        )
    return local.folder


def plan_download(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> DownloadPlan:
    """Asks the hub what a download would fetch. Raises CheckpointError when the hub cannot be reached or has no such model."""
    hub_id = hub_id_of(name)
    if constants.is_offline_mode():
        raise CheckpointError(f"cannot download {hub_id}: HF_HUB_OFFLINE is set; unset it and try again")
    try:
        files = huggingface_hub.snapshot_download(
            hub_id,
            revision=revision,
            cache_dir=cache_dir,
            local_dir=local_dir,
            token=token,
            allow_patterns=list(ALLOWED_FILES),
            tqdm_class=_Silent,
            dry_run=True,
        )
    except (OSError, HTTPError, RevisionNotFoundError) as error:
        cause = error.__cause__ or error  # a dry run hides why it failed
        raise CheckpointError(_why_no_plan(hub_id, revision, cause)) from error
    missing = [file for file in files if file.will_download]
    destination = Path(local_dir or cache_dir or constants.HF_HUB_CACHE).expanduser().absolute()
    return DownloadPlan(
        hub_id=hub_id,
        commit=files[0].commit_hash if files else "",
        files=len(files),
        nbytes=sum(file.file_size or 0 for file in files),
        missing_files=len(missing),
        missing_bytes=sum(file.file_size or 0 for file in missing),
        destination=destination,
        free_bytes=shutil.disk_usage(_existing_parent(destination)).free,
    )


def download_model(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Path:
    """Downloads a model into the hub's cache (or a plain folder, `local_dir`), with progress bars, resuming what was begun.

    Only safetensors, JSON and the tokenizer are fetched. Raises CheckpointError when the disk is too small, before any
    byte is fetched, or when the hub cannot be reached.
    """
    plan = plan_download(name, revision=revision, cache_dir=cache_dir, local_dir=local_dir, token=token)
    require_space(plan)
    logger.info("downloading %d files, %.1f GB, of %s", plan.missing_files, plan.missing_bytes / 1e9, plan.hub_id)
    try:
        return Path(
            huggingface_hub.snapshot_download(
                plan.hub_id,
                revision=revision,
                cache_dir=cache_dir,
                local_dir=local_dir,
                token=token,
                allow_patterns=list(ALLOWED_FILES),
            )
        )
    except (OSError, HTTPError, XetDownloadError) as error:
        raise CheckpointError(
            f"the download of {plan.hub_id} stopped: {error}; run it again, it resumes: phonofilm models download {name}"
        ) from error


def require_space(plan: DownloadPlan) -> None:
    """Raises CheckpointError when what a download still has to fetch does not fit on the disk."""
    if plan.missing_bytes > plan.free_bytes:
        raise CheckpointError(
            f"{plan.hub_id} needs {plan.missing_bytes / 1e9:.1f} GB more in {plan.destination}, where "
            f"{plan.free_bytes / 1e9:.1f} GB are free; make room, or choose another disk (HF_HOME, or --output DIR)"
        )


class _Silent(tqdm):
    """No progress bar: planning a download takes a moment, and its bars would look like the download."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"disable": True}))


def _why_no_plan(hub_id: str, revision: str | None, cause: BaseException) -> str:
    at = f" at revision {revision}" if revision else ""
    if isinstance(cause, RepositoryNotFoundError | RevisionNotFoundError):
        return f"the hub has no {hub_id}{at}, or needs a login for it (hf auth login): {cause}"
    return f"cannot reach the hub for {hub_id}{at}: {cause}"


def _outside_the_hub(name: str) -> Path | None:
    """The folder of `name` if it is the packaged model or a folder on disk; None if only the hub can have it."""
    if name == "nano":
        if not (PACKAGED_WEIGHTS / MODEL_INDEX).is_file():
            raise CheckpointError(
                "this installation of Phonofilm has no embedded model (nano); install a released wheel, or give model= a "
                "checkpoint folder, 360p or 720p"
            )
        return PACKAGED_WEIGHTS
    path = Path(name).expanduser()
    return path if file_fault(path) == FOLDER_FAULT and all(model.name != name for model in KNOWN_MODELS) else None


def _has_all_weights(folder: Path) -> bool:
    """Whether every file that a checkpoint folder names is there; what is in them is for health.py."""
    try:
        index = read_json(folder / MODEL_INDEX)
        slots = {name: value[1] for name, value in index.items() if isinstance(value, list) and len(value) == 2}
        for name, class_name in slots.items():
            if name == "tokenizer":
                read_json(folder / name / "tokenizer_config.json")
            elif name == "scheduler":
                read_json(folder / name / "scheduler_config.json")
            elif class_name is not None:
                weight_files(folder / name, weights_stem(str(class_name)))
    except CheckpointError:
        return False
    return True


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
