"""Whether another engine's server answers, asked beside the jobs, so that it is known before one of them waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from phonofilm.serving.client import ServerClient, ServerError
from phonofilm.serving.engines.engine_settings import EngineSettings

TIMEOUT = 4.0
# In a row: a machine with much else to do may let one question wait for too long.
MISSES = 2


@dataclass
class EngineWatch:
    """Asks the server for its models, as a worker does at its start."""

    engine: EngineSettings
    _misses: int = field(default=0, init=False)

    def is_away(self) -> bool:
        """Ask once; whether the last questions were not answered. Waits for at most TIMEOUT seconds, and raises nothing."""
        try:
            ServerClient(self.engine.url, tries=1, timeout=TIMEOUT).models()
        except ServerError:
            self._misses += 1
        else:
            self._misses = 0
        return self._misses >= MISSES
