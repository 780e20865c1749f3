"""From clips to a report: list them, measure, summarise, compare, write. What `phonofilm evaluate` does, without its screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from phonofilm.errors import InputError
from phonofilm.evaluation.catalogue import build
from phonofilm.evaluation.clip_list import list_clips, without_clip
from phonofilm.evaluation.figures import summarise_metric
from phonofilm.evaluation.measuring import MeasuringPlan, OnClip, measure_all
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.paper import compare_with_paper
from phonofilm.evaluation.prompts import read_prompt_items
from phonofilm.evaluation.result import Evaluated, write_result

ROWS_FOLDER = "rows"


def plan_evaluation(
    clips: Sequence[Path],
    report: Path,
    metrics: Sequence[str],
    setup: Setup,
    prompts: Path | None = None,
    jobs: int | None = None,
) -> MeasuringPlan:
    """Everything that can be refused is refused here: paths, prompts, names of metrics, two clips of one name."""
    items = read_prompt_items(prompts) if prompts else ()
    entries = list_clips(clips, items)
    if report.exists() and not report.is_dir():
        raise InputError(f"{report} is a file; name a folder for the report")
    twice = [name for name, times in Counter(entry.id for entry in entries).items() if times > 1]
    if twice:
        raise InputError(f"two clips are named {twice[0]}; evaluate their folders one by one")
    names = tuple(metric.name for metric in build(metrics, setup))
    return MeasuringPlan(entries, names, setup, report / ROWS_FOLDER, jobs)


def evaluate(plan: MeasuringPlan, prompts: Path | None = None, on_clip: OnClip = lambda done, total: None) -> Evaluated:
    """Measure what is not measured yet, and pool it."""
    rows = measure_all(plan, on_clip)
    metrics = build(plan.metrics, plan.setup)
    categories = [clip.category for clip in plan.clips]
    summaries = {
        metric.name: summarise_metric(metric, [rows[clip.id][metric.name] for clip in plan.clips], categories)
        for metric in metrics
    }
    items = read_prompt_items(prompts) if prompts else ()
    missing = without_clip(items, plan.clips)
    asked = Counter(item.category for item in items) if items else Counter(categories)
    return Evaluated(
        clips=plan.clips,
        metrics=metrics,
        setup=plan.setup,
        rows=rows,
        summaries=summaries,
        comparisons=compare_with_paper(metrics, summaries, plan.setup.profile, asked),
        without_clip=tuple(item.id for item in missing),
    )


def write_report(run: Evaluated, folder: Path) -> list[Path]:
    """result.json and report.html in the folder."""
    from phonofilm.evaluation.report_page import write_page_of

    return [write_result(run, folder), write_page_of(run, folder)]
