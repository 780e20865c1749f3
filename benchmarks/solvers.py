"""How near each solver, and the step cache, comes to a fine solution of the embedded model's equation, per forward.

    python -m benchmarks.solvers [--seeds N] [--json FILE] [--plot FILE]

The distance of a track is that of its latents to the reference's (Euler with 500 steps), relative to the reference's
size, both as root mean square, averaged over the seeds. Deterministic but for the kernels' rounding; no clock is read.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from phonofilm import MovaPipeline
from phonofilm.pipeline.solvers import SOLVERS

ROOT = Path(__file__).parents[1]
MODEL = "nano"
PROMPT = "A red ball bounces on a wooden floor."
REFERENCE_STEPS = 500
STEPS = (5, 10, 20, 50)
CACHE_STEPS = 50
CACHES = ("easy:0.02", "easy:0.05", "easy:0.1")
TRACKS = ("video", "audio")
LABELS = {"video": "picture", "audio": "sound"}


@dataclass(frozen=True)
class Run:
    """One way of sampling: what it took, and how far both tracks end from the reference. Means over the seeds."""

    solver: str
    steps: int
    cache: str
    forwards: float
    steps_skipped: float
    video: float
    audio: float


Made = tuple[Tensor, Tensor, int, int]


def make(pipe: MovaPipeline, seed: int, steps: int, solver: str = "euler", cache: str = "none") -> Made:
    """Video latents, audio latents, forwards, steps skipped."""
    out = pipe(
        PROMPT,
        num_inference_steps=steps,
        solver=solver,
        cache=cache,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
    )
    return out.frames, out.audio, out.forwards, out.steps_skipped


def distance(made: Tensor, reference: Tensor) -> float:
    return float((made - reference).pow(2).mean().sqrt() / reference.pow(2).mean().sqrt())


def measure(
    pipe: MovaPipeline, references: Sequence[Made], steps: int, solver: str = "euler", cache: str = "none"
) -> Run:
    made = [make(pipe, seed, steps, solver, cache) for seed in range(len(references))]
    pairs = list(zip(made, references, strict=True))
    video, audio = (
        statistics.mean(distances)
        for distances in ([distance(m[0], r[0]) for m, r in pairs], [distance(m[1], r[1]) for m, r in pairs])
    )
    forwards, skipped = statistics.mean(m[2] for m in made), statistics.mean(m[3] for m in made)
    run = Run(solver, steps, cache, forwards, skipped, video, audio)
    print(f"{solver:9}{steps:4} steps  cache {cache:10}{forwards:6g} forwards  {video:.4f} {audio:.4f}", flush=True)
    return run


def steps_like(runs: Sequence[Run], track: str, goal: float) -> float | None:
    """The steps at which a solver is as near as `goal`, on a straight line between two measured points of its log-log plot."""
    points = sorted((run.steps, getattr(run, track)) for run in runs)
    for (few, worse), (many, better) in pairwise(points):
        if worse >= goal >= better:
            part = math.log(worse / goal) / math.log(worse / better)
            result: float | None = round(few * (many / few) ** part, 1)
            return result
    return None


def plot(plain: Sequence[Run], cached: Sequence[Run], path: Path) -> None:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, track in zip(figure.subplots(1, 2), TRACKS, strict=True):
        for name in SOLVERS:
            own = [run for run in plain if run.solver == name]
            axes.plot([run.forwards for run in own], [getattr(run, track) for run in own], "o-", label=name)
        axes.plot(
            [run.forwards for run in cached],
            [getattr(run, track) for run in cached],
            "k^:",
            label=f"euler, {CACHE_STEPS} steps, cache",
        )
        axes.set(xscale="log", yscale="log", title=LABELS[track], xlabel="forwards of the model")
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.set_ylabel(f"relative distance to Euler with {REFERENCE_STEPS} steps")
        axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "solvers.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "solver-convergence.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipe = MovaPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    references = [make(pipe, seed, REFERENCE_STEPS) for seed in range(options.seeds)]
    plain = [measure(pipe, references, steps, solver) for steps in STEPS for solver in SOLVERS]
    cached = [measure(pipe, references, CACHE_STEPS, cache=cache) for cache in CACHES]
    euler = next(run for run in plain if run.solver == "euler" and run.steps == CACHE_STEPS)
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m benchmarks.solvers --seeds {options.seeds}",
        "model": MODEL,
        "prompt": PROMPT,
        "reference": f"euler, {REFERENCE_STEPS} steps",
        "device": f"CPU, 1 thread, {platform.machine()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "solvers": [asdict(run) for run in plain],
        "caches": [asdict(run) for run in cached],
        f"steps_as_near_as_euler_{CACHE_STEPS}": {
            name: {t: steps_like([r for r in plain if r.solver == name], t, getattr(euler, t)) for t in TRACKS}
            for name in SOLVERS
        },
    }
    options.json.write_text(json.dumps(record, indent=2) + "\n")
    plot(plain, cached, options.plot)
    print(json.dumps(record[f"steps_as_near_as_euler_{CACHE_STEPS}"], indent=2))


if __name__ == "__main__":
    main()
