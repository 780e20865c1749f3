"""The best weights by validation, per modality, and which modality no longer gets better. Nothing of it is random or timed.

What was best is read from the run's curves alone, so a resumed run decides as an uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from phonofilm.training.checkpointing.best_weights import BEST_METRICS
from phonofilm.training.config.training_config import Modality
from phonofilm.training.loop.metrics_log import HookResult, as_written


class Validations:
    """The validation losses a run has seen: `rows` are those of its curves, as `read_metrics` gives them."""

    def __init__(self, rows: Iterable[tuple[int, float, str, float]], patience: Mapping[Modality, int]) -> None:
        self._patience = patience
        self._best: dict[str, float] = {}
        self._since: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self.halted: frozenset[str] = frozenset()
        for step, _, name, value in rows:
            self._add(step, name, value)

    def add(self, step: int, result: HookResult) -> dict[str, float]:
        """Take in a validation's result. Returns the new bests: folder name and value, as BEST_METRICS names them."""
        rounded = {n: float(as_written(v)) for n, v in result.items() if isinstance(v, int | float)}
        return {
            name: rounded[of] for name, of in BEST_METRICS.items() if of in rounded and self._add(step, of, rounded[of])
        }

    def _add(self, step: int, name: str, value: float) -> bool:
        if name not in BEST_METRICS.values() or self._last.get(name) == step:
            return False
        self._last[name] = step
        better = value < self._best.get(name, float("inf"))
        self._since[name] = 0 if better else self._since[name] + 1
        if better:
            self._best[name] = value
        for modality, patience in self._patience.items():
            if name == f"val/{modality}" and self._since[name] >= patience:
                self.halted |= {modality}
        return better
