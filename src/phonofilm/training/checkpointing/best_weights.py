"""The best weights by validation, in the run folder's `best`, `best-video` and `best-audio`, apart from the checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

BEST_METRICS: dict[str, str] = {"best": "val/mean", "best-video": "val/video", "best-audio": "val/audio"}


def keep_best(
    folder: Path,
    step: int,
    new: Mapping[str, float],
    save: Callable[[Path], None],
    place: Callable[[Path], AbstractContextManager[Path]],
) -> None:
    """Put the weights into FOLDER/best, best-video, best-audio, where `new` names them, with a note of step and value.

    `save` writes the weights into the folder it is given. The one from before is replaced only by a whole new one, which
    `place` sees to.
    """
    for name, value in new.items():
        with place(folder / name) as fresh:
            fresh.mkdir(exist_ok=True)  # several processes may write into it
            save(fresh)
            note = {"step": step, "metric": BEST_METRICS[name], "value": value}
            (fresh / "best.json").write_text(json.dumps(note, indent=1) + "\n")
