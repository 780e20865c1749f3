"""The models that a worker holds: opened when they are needed, a few kept, the one used longest ago let go."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.session import Session, open_session
from phonofilm.serving.jobs.job import Job, MadeClips
from phonofilm.serving.security.public_http import PublicHttp
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import Store
from phonofilm.serving.worker.clip_job import make_job
from phonofilm.serving.worker.held_job import HeldJob

logger = logging.getLogger(__name__)


class SessionMaker:
    """Makes clips with at most `settings.loaded_models` sessions in this process, by the model's name."""

    def __init__(self, settings: WorkerSettings, web: PublicHttp | None = None) -> None:
        self.settings = settings
        self.web = web or PublicHttp()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    @property
    def loaded(self) -> list[str]:
        return list(self._sessions)

    def session(self, model: str) -> Session:
        """The model's session. Its weights are read with its first clip, or by `load`."""
        session = self._sessions.pop(model, None)
        if session is None:
            while len(self._sessions) >= max(1, self.settings.loaded_models):
                name, oldest = self._sessions.popitem(last=False)
                logger.info("letting go of %s for %s", name, model)
                oldest.close()
            session = open_session(open_checkpoint(self.settings.models[model]), self.settings.hardware)
        self._sessions[model] = session
        return session

    def open(self) -> dict[str, dict[str, Any]]:
        """Read the default model's weights now."""
        session = self.session(self.settings.default_model)
        session.read_weights()
        return {self.settings.default_model: model_facts_of(session)}

    def make(self, job: Job, held: HeldJob, store: Store) -> MadeClips:
        return make_job(job, self.session(job.model), self.settings, store, held, self.web)

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()


def model_facts_of(session: Session) -> dict[str, Any]:
    """The sizes and settings of a clip with no options set, and the factors that sizes must keep to."""
    geometry = session.checkpoint.geometry
    settings = session.plan_options(ClipOptions(prompt="-")).settings()
    defaults = {name: value for name, value in settings.items() if name != "prompt"}
    return {
        "height": geometry.height,
        "width": geometry.width,
        "num_frames": geometry.num_frames,
        "fps": str(geometry.frame_rate),
        "spatial_factor": geometry.spatial_factor,
        "temporal_factor": geometry.temporal_factor,
        "patch": geometry.patch,
        "steps": defaults["steps"],
        "defaults": defaults,
    }
