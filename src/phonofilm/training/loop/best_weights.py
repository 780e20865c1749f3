"""The best weights by validation, per modality, and which modality no longer gets better. Nothing of it is random or timed.

What was best is read from the run's curves alone, so a resumed run decides as an uninterrupted one would have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from phonofilm.files import replacing
from phonofilm.training.config.training_config import Modality
from phonofilm.training.loop.metrics_log import HookResult, as_written

BEST: dict[str, str] = {"best": "val/mean", "best-video": "val/video", "best-audio": "val/audio"}


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

    def add(self, step: int, told: HookResult) -> dict[str, float]:
        """Take in what a validation told. Returns the new bests: folder name and value, as BEST names them."""
        rounded = {n: float(as_written(v)) for n, v in told.items() if isinstance(v, int | float)}
        return {name: rounded[of] for name, of in BEST.items() if of in rounded and self._add(step, of, rounded[of])}

    def _add(self, step: int, name: str, value: float) -> bool:
        if name not in BEST.values() or self._last.get(name) == step:
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


def keep_best(
    folder: Path,
    step: int,
    new: Mapping[str, float],
    save: Callable[[Path], None],
    place: Callable[[Path], AbstractContextManager[Path]] = replacing,
) -> None:
    """Put the weights into FOLDER/best, best-video, best-audio, where `new` names them, with a note of step and value.

    `save` writes the weights into the folder it is given. The one from before is replaced only by a whole new one, which
    `place` sees to.
    """
    for name, value in new.items():
        with place(folder / name) as fresh:
            fresh.mkdir(exist_ok=True)  # several processes may write into it
            save(fresh)
            note = {"step": step, "metric": BEST[name], "value": value}
            (fresh / "best.json").write_text(json.dumps(note, indent=1) + "\n")
