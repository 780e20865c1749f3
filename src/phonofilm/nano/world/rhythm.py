"""When things happen in the scenes that are not driven by gravity."""

from __future__ import annotations

import numpy as np

from phonofilm.nano.world.palette import pick
from phonofilm.nano.world.stage import Stage

PATTERNS: dict[str, tuple[float, ...]] = {"steady": (1.0,), "skipping": (1.5, 1.0), "galloping": (1.0, 1.0, 1.7)}


def beats(rng: np.random.Generator, stage: Stage, shortest: float, longest: float) -> tuple[list[float], str]:
    """Event times in seconds and the pattern's name: a random unit in [shortest, longest], a random start, a pattern.

    No event falls into the first tenth of a second or into the last 0.15 s, where it could hardly be seen or heard.
    """
    name = pick(rng, tuple(PATTERNS))
    pattern = PATTERNS[name]
    unit = float(rng.uniform(shortest, longest))
    time = 0.12 + float(rng.uniform(0, 1)) * unit
    step = int(rng.integers(len(pattern)))
    times: list[float] = []
    while time < stage.seconds - 0.15 or not times:
        times.append(time)
        time += unit * pattern[step % len(pattern)]
        step += 1
    return times, name
