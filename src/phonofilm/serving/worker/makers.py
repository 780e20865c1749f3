"""Which maker a worker has: a session in its process, or another engine's server."""

from __future__ import annotations

from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.worker.maker import JobMaker


def new_maker(settings: WorkerSettings) -> JobMaker:
    """The maker that the settings ask for. PyTorch is imported here."""
    if settings.engine is not None:
        from phonofilm.serving.engines.sglang_maker import SglangMaker

        return SglangMaker(settings)
    from phonofilm.serving.worker.sessions import SessionMaker

    return SessionMaker(settings)
