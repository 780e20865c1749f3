"""What `phonofilm nano measure` and `phonofilm nano learned` do: a model loaded, measured, and the report written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phonofilm.generation.loras import LoraFiles, use_loras
from phonofilm.generation.placement.devices import choose_placement
from phonofilm.models.hub import resolve_model
from phonofilm.models.layout import read_layout
from phonofilm.pipeline.mova import MovaPipeline
from recipes.nano.measuring.generated_clips import MeasurePlan
from recipes.nano.measuring.learned import measure_learned
from recipes.nano.measuring.learned_report import learned_markdown, write_learned
from recipes.nano.measuring.measure import measure
from recipes.nano.measuring.measure_report import markdown, write_report
from recipes.nano.measuring.novelty import read_trained

OnRow = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LearnedScene:
    """What a LoRA was taught: its files, the clips it learnt from, the scene, and how many clips of it are measured.

    `first_frame`: measure once more with a first frame given.
    """

    loras: tuple[str, ...]
    trained_on: tuple[Path, ...]
    scene: str
    clips: int
    first_frame: bool


def measure_model(
    model: str, device: str, plan: MeasurePlan, output: Path, samples: int, on_progress: OnRow
) -> tuple[str, list[Path]]:
    """The report as text, and the files written."""
    measured = measure(_pipeline(model, device), output, plan, model=model, on_progress=on_progress)
    return markdown(measured.report), write_report(measured, output, samples)


def measure_lora(
    model: str,
    device: str,
    taught: LearnedScene,
    old: MeasurePlan,
    output: Path,
    samples: int,
    on_progress: OnRow,
) -> tuple[str, list[Path]]:
    """The report as text, and the files written. `old`: how the scenes that it knew before are measured."""
    uses = LoraFiles(read_layout(resolve_model(model))).take(taught.loras)
    pipeline = _pipeline(model, device)
    report = measure_learned(
        pipeline,
        lambda pipe: use_loras(pipe, uses),
        output / "clips",
        old,
        read_trained(taught.trained_on, pipeline.default_geometry),
        scene=taught.scene,
        clips=taught.clips,
        first_frame=taught.first_frame,
        on_progress=on_progress,
    )
    return learned_markdown(report), write_learned(report, output, samples)


def _pipeline(model: str, device: str) -> MovaPipeline:
    machine = choose_placement(device)
    pipeline: MovaPipeline = MovaPipeline.from_pretrained(model, machine.dtype, device=machine.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
