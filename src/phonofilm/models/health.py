"""A full report on a checkpoint folder: every check of layout.py, for every component, and those that read all its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from phonofilm.errors import CheckpointError
from phonofilm.models.checkpoint_files import MODEL_INDEX, PICKLE_SUFFIXES, listed
from phonofilm.models.checksums import check_digest, expected_digest, list_fault, listed_files
from phonofilm.models.layout import (
    NETWORKS,
    CheckpointComponent,
    check_fit,
    check_tokenizer,
    read_component,
    read_model_index,
)
from phonofilm.models.scalars import read_scalars, read_scheduler_config
from phonofilm.models.shards import TensorReader

ELEMENTS_AT_ONCE = 2**24

VerifyProgress = Callable[[str, int], None]


@dataclass(frozen=True)
class CheckpointFinding:
    """One thing found out about a checkpoint. `subject`: a component, a file, or what was compared."""

    severity: Literal["ok", "warning", "error"]
    subject: str
    message: str


def is_loadable(findings: list[CheckpointFinding]) -> bool:
    """Whether a checkpoint with these findings can be used."""
    return all(finding.severity != "error" for finding in findings)


def health(
    folder: Path | str, *, checksums: bool = False, deep: bool = False, progress: VerifyProgress | None = None
) -> list[CheckpointFinding]:
    """What is right and wrong with a checkpoint folder; never raises for a checkpoint that is broken.

    `checksums` hashes every file whose digest is known, from the hub or from when we saved it; `deep` looks for NaN and
    infinity in every tensor. Both read all bytes once; `progress(subject, bytes)` is called for each chunk.
    """
    root = Path(folder)
    report: VerifyProgress = progress or (lambda subject, nbytes: None)
    try:
        index = read_model_index(root)
    except CheckpointError as error:
        return [CheckpointFinding("error", MODEL_INDEX, str(error))]
    findings: list[CheckpointFinding] = []
    components: dict[str, CheckpointComponent] = {}
    for name in NETWORKS:
        if index[name][1] is None:
            findings.append(CheckpointFinding("ok", name, "none: a checkpoint of one expert"))
            continue
        try:
            components[name] = read_component(root, name, index[name][1])
        except CheckpointError as error:
            findings.append(CheckpointFinding("error", name, str(error)))
            continue
        findings.extend(_about(components[name]))
    findings.extend(_tried("tokenizer", "readable", partial(check_tokenizer, root)))
    findings.extend(_tried("scheduler", "readable", partial(read_scheduler_config, root)))
    findings.extend(_tried(MODEL_INDEX, "readable", partial(read_scalars, root)))
    findings.extend(_tried("sizes of the components", "fit together", partial(check_fit, root, components)))
    if checksums:
        findings.extend(_checksums(root, report))
    if deep:
        findings.extend(_finite(component, report) for component in components.values())
    return findings


def _tried(subject: str, fine: str, check: Callable[[], object]) -> Iterator[CheckpointFinding]:
    try:
        check()
    except CheckpointError as error:
        yield CheckpointFinding("error", subject, str(error))
    else:
        yield CheckpointFinding("ok", subject, fine)


def _about(component: CheckpointComponent) -> Iterator[CheckpointFinding]:
    entries = component.entries.values()
    dtypes = " and ".join(sorted({str(entry.dtype).removeprefix("torch.") for entry in entries}))
    files = len({entry.file for entry in entries})
    size = f"{component.nbytes / 1e9:.2f} GB" if component.nbytes >= 10**8 else f"{component.nbytes / 1e6:.2f} MB"
    yield CheckpointFinding("ok", component.name, f"{len(entries)} tensors, {size} in {files} file(s), {dtypes}")
    if pickles := sorted(p.name for p in component.folder.iterdir() if p.name.endswith(PICKLE_SUFFIXES)):
        yield CheckpointFinding(
            "warning", component.name, f"pickles beside the weights are never read: {listed(pickles)}"
        )


def _checksums(root: Path, progress: VerifyProgress) -> list[CheckpointFinding]:
    files = sorted(path for path in root.glob("[!.]*/*") if path.suffix in (".safetensors", ".json") and path.is_file())
    files.append(root / MODEL_INDEX)
    files = sorted({*files, *listed_files(root)})
    known = {file: digest for file in files if (digest := expected_digest(root, file)) is not None}
    findings: list[CheckpointFinding] = []
    for file, digest in known.items():
        subject = str(file.relative_to(root))
        tried = _tried(subject, "intact", partial(check_digest, file, digest, partial(progress, subject)))
        findings.extend(finding for finding in tried if finding.severity == "error")
    if (fault := list_fault(root)) is not None:
        return [*findings, CheckpointFinding("warning", "checksums", fault if known else f"none known: {fault}")]
    if not known:
        return [
            CheckpointFinding(
                "ok", "checksums", "none known: this folder was neither downloaded from the hub nor saved by Phonofilm"
            )
        ]
    if not findings:
        return [
            CheckpointFinding(
                "ok", "checksums", f"{len(known)} of {len(files)} files have a known digest, and it is right"
            )
        ]
    return findings


def _finite(component: CheckpointComponent, progress: VerifyProgress) -> CheckpointFinding:
    bad: list[str] = []
    reader = TensorReader()
    for key, entry in component.entries.items():
        if entry.dtype.is_floating_point:
            pieces = reader.mapped(entry).reshape(-1).split(ELEMENTS_AT_ONCE)
            if not all(bool(torch.isfinite(piece.float()).all()) for piece in pieces):
                bad.append(key)
        progress(component.name, entry.nbytes)
    if bad:
        return CheckpointFinding("error", component.name, f"{len(bad)} tensors hold NaN or infinity: {listed(bad)}")
    return CheckpointFinding("ok", component.name, "every number is finite")
