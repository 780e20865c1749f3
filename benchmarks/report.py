"""The race as a table, a JSON file and a plot."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import torch

import phonofilm
from benchmarks.limits import Limits
from benchmarks.race import Result
from benchmarks.workload import Workload
from phonofilm.files import replacing

# Of a clip, by what decides them alone. A step cache's depend on the weights, and these are random.
FORWARDS = {
    "50 steps": 100,
    "50 steps, --guidance-interval 0:0.6": 80,
    "25 steps of a second-order --solver": 50,
    "8 steps of a distilled model, --guidance-scale 1": 8,
}
COLUMNS = ("", "s/step", "to the first", "limit s", "device GB", "streamed GB", "velocities")


def record(workload: Workload, limits: Limits, results: Sequence[Result], command: str) -> dict[str, Any]:
    """Everything measured, with hardware, versions and date."""
    gpu = workload.device.type == "cuda"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "device": torch.cuda.get_device_name(workload.device) if gpu else f"CPU, {torch.get_num_threads()} threads",
        "machine": platform.machine(),
        "versions": {
            "phonofilm": phonofilm.__version__,  # which has no metadata where it runs from `src`
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
        },
        "size": workload.size.name,
        "model": workload.size.what,
        "dtype": str(next(workload.denoiser.parameters()).dtype).removeprefix("torch."),
        "weight_bytes": workload.weight_bytes,
        "flops_per_step": workload.flops,
        "measured_flops_per_second": limits.flops,
        "measured_fp8_flops_per_second": limits.fp8_flops,
        "measured_link_bytes_per_second": limits.link,
        "clips": clips(results),
        "results": [asdict(result) for result in results],
    }


def clips(results: Sequence[Result]) -> dict[str, Any]:
    """Seconds of sampling a clip by the fastest of ours that ran, computed from its forwards and its step of two."""
    ours = [(result.seconds, result.name) for result in results if result.ours and result.seconds is not None]
    if not ours:
        return {}
    seconds, name = min(ours)
    return {"by": name, "seconds": {what: forwards * seconds / 2 for what, forwards in FORWARDS.items()}}


def table(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Rows of COLUMNS."""
    return [_row(result) for result in results]


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """`bench-SIZE.json` and, where matplotlib is installed, `bench-SIZE.png` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"bench-{report['size']}.json"
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return [path]
    picture = path.with_suffix(".png")
    ran = [result for result in report["results"] if result["seconds"] is not None]
    figure, axes = plt.subplots(figsize=(7, 0.6 * len(ran) + 1.4), layout="constrained")
    colours = ["#c0562f" if result["ours"] else "#8a8f98" for result in ran]
    axes.barh([result["name"] for result in ran], [result["seconds"] for result in ran], color=colours)
    for place, result in enumerate(ran):
        axes.plot([result["limit_seconds"]] * 2, [place - 0.4, place + 0.4], color="black")
    axes.invert_yaxis()
    axes.set_xlabel("seconds per guided step (black: what no step can beat here)")
    axes.set_title(f"{report['model']}, {report['dtype']}, {report['device']}", fontsize=9)
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
    return [path, picture]


def _row(result: Result) -> tuple[str, ...]:
    name = result.name if result.ours else f"{result.name} (peer)"
    if result.seconds is None:
        return name, f"did not run: {result.error}", "", "", "", "", ""
    assert result.limit_seconds is not None
    same = "bit-identical" if result.difference == 0 else f"within {result.difference:.1g}"
    peak = "-" if result.peak_bytes is None else f"{result.peak_bytes / 1e9:.2f}"
    return (
        name,
        f"{result.seconds:.3g}",
        f"{result.ratio:.3g}x",
        f"{result.limit_seconds:.3g}",
        peak,
        f"{result.streamed_bytes / 1e9:.3g}",
        same,
    )
