"""What clients learn when a job's clips could not be made."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping

from phonofilm.errors import InputError, MediaError, PhonofilmError, causes_of
from phonofilm.serving.store.interface import StoreError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
# Fields of a request whose uploads are stored under the name of the option that they fill.
UPLOADS = {"image": "input_reference", "last_image": "last_frame", "continue_from": "video"}
_UPLOAD = re.compile(r"(?<![\w:/])/+(?:[\w.\-]+/+)*inputs/+[\w.\-]+/+(\w+)\.\w+")
_FOLDERS = re.compile(r"(?<![\w:/])/+(?:[\w.\-]+/+)+")


def failure_of(error: PhonofilmError) -> tuple[str, str]:
    """The code and the message of an error: the machine's faults are not called the request's."""
    if isinstance(error, StoreError):
        return "storage_error", "the server's store of files failed; ask again later"
    if is_disk_error(error):
        return "storage_error", "the disk of the machine that made the clip is full or broken; ask again later"
    return ("invalid_request" if isinstance(error, InputError | MediaError) else "generation_failed"), str(error)


def is_disk_error(error: BaseException) -> bool:
    """Whether a disk is at the bottom of it, full or broken."""
    return any(isinstance(cause, OSError) and cause.errno in DISK_ERRORS for cause in causes_of(error))


def without_paths(message: str, store: str, loras: Mapping[str, str]) -> str:
    """The message for clients: an upload is called by its field, a LoRA by its name, and no folder of this machine is named."""
    for name, file in loras.items():
        message = message.replace(f"LoRA at {file}", f"LoRA {name}").replace(file, f"the LoRA {name}")
    named = _UPLOAD.sub(lambda found: UPLOADS.get(found[1], found[1]), message.replace(store, ""))
    return _FOLDERS.sub("", named)
