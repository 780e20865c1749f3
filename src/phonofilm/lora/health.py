"""A report on a LoRA, file or folder: whether it can be read, and whether its files are what they were when we saved them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.adapter import check_numbers
from phonofilm.lora.reading import read_lora
from phonofilm.lora.sources import PICKLES
from phonofilm.models.checkpoint_files import MODEL_INDEX
from phonofilm.models.checksums import (
    CHECKSUMS,
    check_digest,
    digest_file,
    expected_digest,
    list_fault,
    listed_files,
    sidecar_digest,
)
from phonofilm.models.health import CheckpointFinding, VerifyProgress, health
from phonofilm.models.hub import local_checkpoint


def is_lora(path: Path) -> bool:
    """Whether `models verify` should take this for a LoRA: a file, or a folder with our checksums that is no checkpoint."""
    return path.is_file() or ((path / CHECKSUMS).is_file() and not (path / MODEL_INDEX).is_file())


def lora_health(
    path: Path, *, checksums: bool = False, progress: VerifyProgress | None = None
) -> list[CheckpointFinding]:
    """What is right and wrong with a LoRA; never raises for one that is broken. `progress` as in models/health.py."""
    report: VerifyProgress = progress or (lambda subject, nbytes: None)
    findings = [_readable(path)]
    if not checksums:
        return findings
    inside = [] if path.is_file() else [*(file for file in path.rglob("*") if file.is_file()), *listed_files(path)]
    files = [path] if path.is_file() else sorted({file for file in inside if file.name != CHECKSUMS})
    digests = {file: sidecar_digest(file) if path.is_file() else expected_digest(path, file) for file in files}
    known = {file: digest for file, digest in digests.items() if digest is not None}
    broken = 0
    for file, digest in known.items():
        try:
            check_digest(file, digest, partial(report, file.name))
        except CheckpointError as error:
            findings.append(CheckpointFinding("error", file.name, str(error)))
            broken += 1
    if (fault := list_fault(path)) is not None:
        findings.append(CheckpointFinding("warning", "checksums", fault if known else f"none known: {fault}"))
    elif not known:
        where = digest_file(path).name if path.is_file() else CHECKSUMS
        if path.is_file() and digest_file(path).is_file():
            findings.append(CheckpointFinding("warning", "checksums", f"none known: {where} has none of this file"))
        else:
            findings.append(CheckpointFinding("ok", "checksums", f"none known: there is no {where}"))
    elif not broken:
        findings.append(
            CheckpointFinding("ok", "checksums", f"{len(known)} of {len(files)} files are as they were saved")
        )
    return findings


def _readable(path: Path) -> CheckpointFinding:
    try:
        lora = read_lora(path)
        check_numbers(lora, str(path))
    except InputError as error:  # no LoRA at all, or it can only be read beside the model that it is for
        named_so = path.is_dir() or path.suffix in (".safetensors", *PICKLES)
        return CheckpointFinding("warning" if named_so else "error", path.name, str(error))
    except CheckpointError as error:
        return CheckpointFinding("error", path.name, str(error))
    return CheckpointFinding("ok", path.name, f"{sum(1 for _ in lora.items())} adapters, {lora.layout} layout")


def verify_model(
    model: str, *, checksums: bool, deep: bool, progress: VerifyProgress
) -> tuple[Path, list[CheckpointFinding]]:
    """Where a checkpoint or a LoRA lies, and what is right and wrong with it. Raises as `local_checkpoint` does."""
    if is_lora(Path(model)):
        return Path(model), lora_health(Path(model), checksums=checksums, progress=progress)
    folder = local_checkpoint(model)
    return folder, health(folder, checksums=checksums, deep=deep, progress=progress)
