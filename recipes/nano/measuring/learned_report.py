"""The result of `measure_learned` as Markdown, JSON, and pictures of the same prompts before and after."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from phonofilm.evaluation.plots import markdown_table
from phonofilm.files import replacing
from phonofilm.media.clip import Clip
from phonofilm.media.sheet import contact_sheet
from phonofilm.media.write import save_clip
from recipes.nano.measuring.learned import Learned, LearnedReport
from recipes.nano.measuring.measure_report import plain
from recipes.nano.measuring.measure_rows import ATTRIBUTES
from recipes.nano.measuring.owl_reader import read_calls, read_owl

BEFORE_AT_MOST, AFTER_AT_LEAST, LOST_AT_MOST = 0.2, 0.8, 0.1
NEAR = 0.5  # of the distance that held-out clips have
VERDICTS = ("seen", "colour", "background", "moves", "calls", "in_sync", "new")
LEARNED_HEADER = ("in its colour", "before its wall", "moves", "calls", "in sync", "new")
OLD = tuple(name for name in ATTRIBUTES if name != "last_colour")


def write_learned(report: LearnedReport, folder: Path, samples: int = 3) -> list[Path]:
    """learned.md, learned.json, and for the first `samples` prompts a picture of both clips and the clips. What was written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "learned.md", folder / "learned.json"]
    files[0].write_text(learned_markdown(report), encoding="utf-8")
    rows = [
        {"name": row.name, "concept": asdict(row.concept), "old": dict(row.old), "old_mean": row.old_mean}
        for row in report.rows
    ]
    figures = {
        "scene": report.scene,
        "clips": len(report.truths),
        "old_clips": report.old_clips,
        "seen_captions": report.seen_captions,
        "truth": asdict(report.truth),
        "rows": rows,
    }
    files[1].write_text(json.dumps(plain(figures), indent=1) + "\n", encoding="utf-8")
    for index in range(min(samples, len(report.truths))):
        picture = folder / f"before-after-{index}.png"
        with replacing(picture) as temporary:
            before_after(report, index).quantize(192).save(temporary, format="PNG", optimize=True)
        files.append(picture)
        for row in report.rows[:2]:
            path = folder / f"{index}-{row.name.replace(', ', '-').replace(' ', '-')}.mp4"
            save_clip(_clip(report, row, index), path, overwrite=True)
            files.append(path)
    return files


def learned_markdown(report: LearnedReport) -> str:
    """A table of both rows of every way of prompting, in per cent, and what they say."""
    header = ["", f"{report.scene} seen", *LEARNED_HEADER, "all", "distance"]
    judged = [("held-out clips", report.truth), *((row.name, row.concept) for row in report.rows)]
    rows = [
        [
            name,
            *(_percent(getattr(concept, column)) for column in VERDICTS),
            _percent(concept.all),
            f"{concept.distance:.2f}",
        ]
        for name, concept in judged
    ]
    old = [
        [row.name, *(_percent(row.old.get(name, math.nan)) for name in OLD), _percent(row.old_mean)]
        for row in report.rows
    ]
    return (
        "\n\n".join(
            [
                f"## The new scene, over {len(report.truths)} held-out prompts",
                f"{report.seen_captions} held-out prompts were passed over because they were trained on. Distance: how far the "
                "rhythm of wings and calls is from the nearest trained clip's, 0 for the same one; held-out clips show what "
                "chance gives.",
                markdown_table(header, rows),
                f"## The old scenes, over {report.old_clips} held-out prompts",
                markdown_table(["", *OLD, "mean"], old),
                "\n".join(f"* {line}" for line in learned_verdicts(report)),
            ]
        )
        + "\n"
    )


def learned_verdicts(report: LearnedReport) -> list[str]:
    """For text alone: was the new scene unknown, is it learnt, and are the old ones still there?"""
    base, tuned = report.pairs()[0]
    lost = base.old_mean - tuned.old_mean
    distance, chance = tuned.concept.distance, report.truth.distance
    return [
        f"unknown before: {_yes(base.concept.all <= BEFORE_AT_MOST)} ({_percent(base.concept.all)} %, at most 20)",
        f"learnt: {_yes(tuned.concept.all >= AFTER_AT_LEAST)} ({_percent(tuned.concept.all)} %, at least 80)",
        f"not memorised: {_yes(distance >= NEAR * chance)} (distance {distance:.2f} to the nearest trained clip, "
        f"at least half of the held-out clips' {chance:.2f})",
        f"old scenes kept: {_yes(lost <= LOST_AT_MOST)} ({-100 * lost:+.0f} points on average, at most 10 lost)",
    ]


def before_after(report: LearnedReport, index: int) -> Image.Image:
    """One prompt's clip from text alone, without the LoRA above and with it below, with the events that were read."""
    sheets = []
    for row in report.rows[:2]:
        clip = _clip(report, row, index)
        shown, truth = row.shown[index], report.truths[index]
        events = {
            "wings up": read_owl(shown.frames, truth.frame_rate).events,
            "call": read_calls(shown.audio, truth.sampling_rate),
        }
        sheets.append(contact_sheet(clip, columns=12, rows=1, title=f"{row.name}: {truth.caption}", events=events))
    page = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)))
    top = 0
    for sheet in sheets:
        page.paste(sheet, (0, top))
        top += sheet.height
    return page


def _clip(report: LearnedReport, row: Learned, index: int) -> Clip:
    shown, truth = row.shown[index], report.truths[index]
    return Clip(shown.frames, truth.frame_rate, shown.audio[None], truth.sampling_rate)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f}"


def _yes(true: bool) -> str:
    return "yes" if true else "no"
