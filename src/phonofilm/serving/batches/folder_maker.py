"""What the makers of a command's own jobs share: they work in the command's folder, with a model that the jobs name."""

from __future__ import annotations

import os
from typing import Any

from phonofilm.serving.settings import WorkerSettings


class FolderMaker:
    """Names in its jobs start from the command's folder, `settings.store`. What the first job needs is loaded with it."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    @property
    def loaded(self) -> list[str]:
        return list(self.settings.models)

    def open(self) -> dict[str, dict[str, Any]]:
        """No model is described here: the jobs call it as the user has, which is what the clips' metadata holds."""
        os.chdir(self.settings.store)
        return {}
