"""A run's curves as one picture, `RUN/curves.png`: losses and validation of both modalities."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from phonofilm.errors import MissingExtraError

SHOWN = ("loss/video", "loss/audio", "val/video", "val/audio", "val/video/no_bridge", "val/audio/no_bridge")


def check_plotting() -> None:
    """Raises MissingExtraError now rather than at the end of a long run."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "train")


def draw_curves(run: Path) -> Path | None:
    """Draw what there is of SHOWN; the picture's path, or None when the run logged nothing yet."""
    from phonofilm.evaluation.plots import plot_curves, read_curves

    log = run / "metrics.csv"
    known = read_curves(log)
    names = [name for name in SHOWN if name in known]
    if not names:
        return None
    plot_curves({run.name: log}, run / "curves.png", names=names, title=run.name, columns=2)
    return run / "curves.png"
