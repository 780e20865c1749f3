"""Routes that bring clips into the library which were made elsewhere: uploads, and files of folders that the operator named."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from phonofilm.errors import PhonofilmError
from phonofilm.files import file_hash
from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.body import MAX_FIELD_BYTES, MAX_FILES, read_form
from phonofilm.serving.api.errors import ApiError, invalid
from phonofilm.serving.api.openapi import BINARY, form_of_files
from phonofilm.serving.api.services import MayAdminister, MayWrite, Services, ServicesOf
from phonofilm.serving.jobs.job import JobRequest, new_job_id
from phonofilm.serving.jobs.job_queue import QueueFull
from phonofilm.serving.library.bringing_in import (
    FilesHere,
    FoundClip,
    bring_in,
    brought_in,
    files_brought_in,
    made_here,
    remember_source,
)
from phonofilm.serving.library.clips import find_clips
from phonofilm.serving.security.access import Access
from phonofilm.serving.security.sniffing import SNIFFED_BYTES, VIDEO, check_kind
from phonofilm.serving.store.interface import OUTPUTS, StoreError
from phonofilm.serving.studio.import_work import read_import
from phonofilm.serving.studio.objects import StudioClip, studio_clip
from phonofilm.untrusted import shown

router = APIRouter(tags=["studio"], responses=ERRORS)
SUFFIXES = (".mp4", ".webm", ".mov", ".mkv", ".gif")
MOST_LISTED = 2000
_FORM = form_of_files({"file": {"type": "array", "items": BINARY}})


class RefusedFile(BaseModel):
    """A file that was not taken, and why."""

    name: str
    message: str


class ImportReport(BaseModel):
    """The clips that are in the library now, and the files that are not. known: those of `data` that were there already."""

    data: list[StudioClip]
    known: list[str] = []
    refused: list[RefusedFile]


class ImportableFile(BaseModel):
    """A file of a folder. imported: it is in the library as it is now."""

    id: str
    name: str
    nbytes: int
    modified_at: float
    imported: bool


class ImportFolder(BaseModel):
    """A folder that the operator named."""

    name: str
    files: list[ImportableFile]


class ImportFolders(BaseModel):
    """Every folder that clips may be brought in from."""

    folders: list[ImportFolder]


class FolderImport(BaseModel):
    """Files by the ids of GET /v1/studio/imports."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=50)]


@dataclass(frozen=True)
class _Listed:
    """A file of a folder; `mark` changes when the file does."""

    id: str
    path: Path
    nbytes: int
    modified_at: float

    @property
    def mark(self) -> str:
        return f"{self.id}-{self.nbytes}-{self.modified_at:.3f}"


@router.post("/v1/studio/imports", operation_id="importClips", openapi_extra=_FORM)
async def import_clips(request: Request, services: ServicesOf, access: MayWrite) -> ImportReport:
    """Bring uploaded clips into the library; settings that they carry come along."""
    try:
        form = await read_form(request, MAX_FILES, MAX_FILES, MAX_FIELD_BYTES)
    except (MultiPartException, HTTPException, AssertionError) as error:
        raise invalid(f"the form cannot be read: {shown(str(error))}") from None
    uploads = [one for one in form.getlist("file") if isinstance(one, UploadFile)]
    if not uploads:
        raise invalid("file is missing: send one clip or more under that name", "file", code="missing_field")
    return await run_in_threadpool(_imported, services, access, uploads)


@router.get("/v1/studio/imports", operation_id="listImportable")
def list_importable(services: ServicesOf, access: MayAdminister) -> ImportFolders:
    """The clips in the folders that the operator named; empty where none was."""
    here = files_brought_in(services.database) if services.api.imports else FilesHere(set(), set())
    folders = [
        ImportFolder(
            name=root.name,
            files=[
                ImportableFile(
                    id=one.id,
                    name=one.path.relative_to(root).as_posix(),
                    nbytes=one.nbytes,
                    modified_at=one.modified_at,
                    imported=one.mark in here.marks or _came_otherwise(services, access, one, here),
                )
                for one in _files_in(number, root)
            ],
        )
        for number, root in enumerate(services.api.imports)
    ]
    return ImportFolders(folders=folders)


@router.post("/v1/studio/imports/folder", operation_id="importFromFolder")
def import_from_folder(fields: FolderImport, services: ServicesOf, access: MayAdminister) -> ImportReport:
    """Bring files of those folders into the library; the files stay where they are."""
    found = {one.id: one for number, root in enumerate(services.api.imports) for one in _files_in(number, root)}
    report = ImportReport(data=[], refused=[])
    for name in fields.ids:
        if (one := found.get(name)) is None:
            report.refused.append(RefusedFile(name=shown(name), message="there is no such file any more; list again"))
        else:
            _add(services, access, one.path, one.path.stem, report, one.mark)
    return report


def _imported(services: Services, access: Access, uploads: list[UploadFile]) -> ImportReport:
    report = ImportReport(data=[], refused=[])
    for upload in uploads:
        # A client may send a whole path as the name: only its end is shown, and none is ever opened.
        name = shown((upload.filename or "clip").replace("\\", "/").rpartition("/")[2])[:100]
        with TemporaryDirectory(prefix="phonofilm-") as folder:
            upload.file.seek(0)
            try:
                kind = check_kind(upload.file.read(SNIFFED_BYTES), VIDEO, "the file")
            except PhonofilmError as error:
                report.refused.append(RefusedFile(name=name, message=str(error)))
                continue
            upload.file.seek(0)
            source = Path(folder) / f"upload{kind.suffix}"
            with source.open("wb") as target:
                shutil.copyfileobj(upload.file, target, 2**20)
            _add(services, access, source, name.rpartition(".")[0] or name, report, "")
    return report


def _add(services: Services, access: Access, source: Path, title: str, report: ImportReport, mark: str) -> None:
    """Read one file and enter it, or say in the report why not."""
    job_id = new_job_id()
    outputs: dict[str, str] = {}
    try:
        with TemporaryDirectory(prefix="phonofilm-") as folder:
            read = services.media.run(read_import, source, Path(folder))
            before = brought_in(services.database, read.sha256, access)
            if before is None and read.seed is not None:
                before = made_here(services.database, services.store, source, read.sha256, read.seed, access)
            if before is not None:
                report.data += [studio_clip(clip) for clip in find_clips(services.database, access, [before])]
                report.known.append(before)
                if mark:
                    remember_source(services.database, before, mark)
                return
            for variant, file in read.files.items():
                outputs[variant] = f"{OUTPUTS}/{job_id}/1-0-{variant}{file.suffix}"
                services.store.put(outputs[variant], file)
            made: dict[str, Any] = {**read.made, "seeds": [read.seed], "missing": read.missing}
            made["sources"] = [mark] if mark else []
            made["source_bytes"] = source.stat().st_size
            nbytes = sum(file.stat().st_size for file in read.files.values())
        request = JobRequest(read.options, seeds=[read.seed])
        model = read.model or "unknown"
        title = "" if read.options["prompt"] else title[:200]
        found = FoundClip(job_id, request, model, title, outputs, made, nbytes, read.sha256)
        name = bring_in(services.database, found, access, services.api.room, services.worker.keep)
        report.data += [studio_clip(clip) for clip in find_clips(services.database, access, [name])]
    except (QueueFull, PhonofilmError, ApiError) as error:
        for stored in outputs.values():
            services.store.delete(stored)
        if isinstance(error, StoreError):
            raise
        # The message may name the temporary file, or a folder of the server's.
        message = str(error).replace(str(source), "the file").replace(str(source.parent), "")
        report.refused.append(RefusedFile(name=title, message=message))


def _came_otherwise(services: Services, access: Access, one: _Listed, here: FilesHere) -> bool:
    """Whether the file was brought in from elsewhere, such as by dropping it: one of that size is read, and then known."""
    if one.nbytes not in here.sizes:
        return False
    before = brought_in(services.database, file_hash(one.path), access)
    if before is not None:
        remember_source(services.database, before, one.mark)
    return before is not None


def _files_in(number: int, root: Path) -> Iterator[_Listed]:
    """The clips below a folder that do not lead out of it, by name."""
    home = root.resolve()
    files = (file for file in sorted(root.rglob("*")) if file.suffix.lower() in SUFFIXES)
    for _, file in zip(range(MOST_LISTED), files, strict=False):
        if not file.resolve().is_relative_to(home) or not file.is_file():
            continue
        facts = file.stat()
        name = hashlib.sha256(f"{number} {file.relative_to(root).as_posix()}".encode()).hexdigest()[:24]
        yield _Listed(name, file, facts.st_size, facts.st_mtime)
