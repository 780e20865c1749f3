"""The route that takes a file once, for the plans and clips that are asked for with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.body import read_body
from phonofilm.serving.api.errors import invalid
from phonofilm.serving.api.openapi import BINARY, form_of_files
from phonofilm.serving.api.services import MayWrite, Services, ServicesOf
from phonofilm.serving.api.uploads import keep_upload
from phonofilm.serving.security.access import Access

router = APIRouter(tags=["studio"], responses=ERRORS)


class Upload(BaseModel):
    """id: what a request says in the file's place, as {"file_id": id}, within an hour."""

    id: str


@router.post("/v1/studio/uploads", operation_id="uploadFile", openapi_extra=form_of_files({"file": BINARY}))
async def upload_file(request: Request, services: ServicesOf, access: MayWrite) -> Upload:
    """Send a file ahead. What it is, and whether it can be taken, is looked at where a request names it."""
    file = (await read_body(request)).uploads.get("file")
    if file is None:
        raise invalid("file is missing: send one under that name", "file", code="missing_field")
    return Upload(id=await run_in_threadpool(_kept, services, access, file))


def _kept(services: Services, access: Access, upload: UploadFile) -> str:
    upload.file.seek(0)
    with TemporaryDirectory(prefix="phonofilm-") as folder:
        file = Path(folder) / "upload"
        with file.open("wb") as target:
            shutil.copyfileobj(upload.file, target, 2**20)
        return keep_upload(services, access, file)
