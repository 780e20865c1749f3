"""A measure report on paper: JSON, a Markdown table, plots, contact sheets and sample clips."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phonofilm.evaluation.plots import Bar, markdown_table, plot_bars, plot_boxes
from phonofilm.media.clip import Clip
from phonofilm.media.sheet import contact_sheet
from phonofilm.media.write import save_clip
from recipes.nano.measuring.measure import (
    BRIDGE_OFF,
    FROM_FRAME,
    FROM_TEXT,
    PICTURE_FOR_SOUND,
    SOUND_FOR_CLIP,
    VAES,
    Measured,
    MeasureReport,
)
from recipes.nano.measuring.measure_rows import ATTRIBUTES, Figures, MeasureRow

HEADER = (
    "", "events", "within 1 frame", "median ms", "p90 ms", "misses", "extras",
    "scene", "colour", "last frame", "size", "pitch", "vowel", "voice", "s/clip",
)  # fmt: skip
SAMPLED = (FROM_FRAME, FROM_TEXT, VAES, SOUND_FOR_CLIP, PICTURE_FOR_SOUND)
GOALS = {"sync": 0.8, "scene": 0.9, "colour": 0.9, "vowel": 0.8, "pitch": 0.8}


@dataclass(frozen=True)
class Goal:
    """One thing the model is meant to reach, what it reached, and whether that is enough."""

    text: str
    reached: str
    met: bool


def goals(report: MeasureReport) -> list[Goal]:
    """What was asked of the embedded model, against what was measured."""
    frame, text, off = (report.row(task.name).overall for task in (FROM_FRAME, FROM_TEXT, BRIDGE_OFF))
    shuffled = report.row(f"{FROM_FRAME.name}, shuffled").overall
    back, speed = report.reconstruction, report.speed
    half = frame.sync.within / 2
    listed = [
        Goal("video VAE: PSNR >= 30 dB", f"{back.psnr_db:.1f}", back.psnr_db >= 30),
        Goal("video VAE: PSNR of moving pixels >= 22 dB", f"{back.moving_psnr_db:.1f}", back.moving_psnr_db >= 22),
        Goal("video VAE: colour kept >= 95 %", _percent(back.colour_kept), back.colour_kept >= 0.95),
        Goal(
            "audio VAE: spectral distance <= 2 dB", f"{back.spectral_distance_db:.2f}", back.spectral_distance_db <= 2
        ),
        Goal("events within 1 frame >= 80 %", _percent(frame.sync.within), frame.sync.within >= GOALS["sync"]),
        Goal("median lag <= 42 ms", _number(frame.sync.median_ms, 0), frame.sync.median_ms <= 42),
        Goal("shuffled: at most half of it", _percent(shuffled.sync.within), shuffled.sync.within <= half),
        Goal("bridge off: at most half of it", _percent(off.sync.within), off.sync.within <= half),
    ]
    for name, figures in (("first frame", frame), ("text alone", text)):
        for attribute in ("scene", "colour", "vowel", "pitch"):
            least = GOALS[attribute]
            share = figures.adherence.get(attribute, math.nan)
            listed.append(Goal(f"{name}: {attribute} >= {least:.0%}", _percent(share), share >= least))
    return [
        *listed,
        Goal("a clip in <= 20 s", f"{speed.seconds_per_clip:.1f} s", speed.seconds_per_clip <= 20),
        Goal("memory <= 2 GB", f"{speed.peak_memory_mb:.0f} MB", speed.peak_memory_mb <= 2048),
    ]


def rows_table(rows: tuple[MeasureRow, ...]) -> str:
    """The rows as Markdown. Shares in per cent; "-" where a figure does not exist."""
    return markdown_table(HEADER, [_cells(row) for row in rows])


def markdown(report: MeasureReport) -> str:
    """The whole report as Markdown."""
    sampling = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in report.sampling.items())
    back, speed = report.reconstruction, report.speed
    scenes = list(report.rows[0].scenes)
    by_scene = [[row.name, *(_percent(row.scenes[scene].sync.within) for scene in scenes)] for row in report.rows]
    listed = [[goal.text, goal.reached, "yes" if goal.met else "no"] for goal in goals(report)]
    parts = [
        f"# Measured: {report.model}",
        f"{report.plan.clips} held-out clips; {sampling}; weights {report.fingerprint}.",
        rows_table(report.rows),
        *_sweep(report),
        "## Events within one frame, by scene",
        markdown_table(["", *scenes], by_scene),
        "## The autoencoders, and speed",
        f"Video: {back.psnr_db:.2f} dB PSNR, {back.moving_psnr_db:.2f} dB on moving pixels, colour kept to the last frame "
        f"in {_percent(back.colour_kept)} %. Audio: spectral distance {back.spectral_distance_db:.2f} dB, "
        f"signal to distortion {back.sdr_db:.2f} dB.",
        f"A clip alone takes {speed.seconds_per_clip:.2f} s on {speed.device} ({speed.threads} threads, {speed.cores} "
        f"cores); peak memory {speed.peak_memory_mb:.0f} MB.",
        "## Goals",
        markdown_table(["goal", "reached", "met"], listed),
    ]
    return "\n\n".join(parts) + "\n"


def write_report(measured: Measured, folder: Path, samples: int = 10) -> list[Path]:
    """report.json, report.md, the plots, and a sheet and an mp4 of the first `samples` clips of every kind.

    Returns what was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "report.json", folder / "report.md", folder / "sync.png", folder / "lags.png"]
    files[0].write_text(json.dumps(plain(asdict(measured.report)), indent=1) + "\n")
    files[1].write_text(markdown(measured.report))
    plot_bars(
        files[2],
        _bars(measured.report),
        "Events with a sound within one frame, and attributes as the prompt has them",
        GOALS,
    )
    frame_ms = 1000 / float(measured.truths[0].frame_rate)
    lags = {row.name: row.overall.lags_ms for row in measured.report.rows if row.overall.lags_ms}
    plot_boxes(files[3], lags, "Lag of the sound behind the picture", "ms; shaded: one frame", frame_ms)
    return [*files, *_samples(measured, folder, samples)]


def _samples(measured: Measured, folder: Path, count: int) -> Iterator[Path]:
    """For looking and listening: contact sheets with the events that were read, and the clips themselves."""
    for task in SAMPLED:
        slug = task.name.replace(",", "").replace(" ", "-")
        for index, truth in enumerate(measured.truths[:count]):
            shown, reading = measured.shown[task.name][index], measured.readings[task.name][index]
            clip = Clip(shown.frames, truth.frame_rate, shown.audio[None], truth.sampling_rate)
            path = folder / "samples" / f"{slug}-{index:02d}.png"
            path.parent.mkdir(exist_ok=True)
            events = {"seen": reading.picture.events, "heard": reading.onsets}
            contact_sheet(clip, title=truth.caption, events=events).save(path)
            save_clip(clip, path.with_suffix(".mp4"), overwrite=True)
            yield from (path, path.with_suffix(".mp4"))


def _sweep(report: MeasureReport) -> list[str]:
    if not report.sweep:
        return []
    clips = report.sweep[0].overall.sync.clips
    return [f"## s_B, over {clips} clips from the first frame", rows_table(report.sweep)]


def _bars(report: MeasureReport) -> dict[str, dict[str, Bar]]:
    rows = (*report.rows, *report.sweep)
    sync = {
        row.name: Bar(row.overall.sync.within, row.overall.sync.within_low, row.overall.sync.within_high)
        for row in rows
    }
    return {
        "sync": sync,
        **{
            name: {row.name: Bar(row.overall.adherence.get(name, math.nan)) for row in rows}
            for name in ("scene", "colour", "pitch", "vowel")
        },
    }


def _cells(row: MeasureRow) -> list[str]:
    figures: Figures = row.overall
    sync = figures.sync
    return [
        row.name,
        str(sync.events),
        "-"
        if math.isnan(sync.within)
        else f"{100 * sync.within:.0f} ({_percent(sync.within_low)}-{_percent(sync.within_high)})",
        _number(sync.median_ms, 0),
        _number(sync.p90_ms, 0),
        _percent(sync.misses),
        _percent(sync.extras),
        *(_percent(figures.adherence.get(name, math.nan)) for name in ATTRIBUTES),
        "-" if row.seconds_per_clip is None else f"{row.seconds_per_clip:.2f}",
    ]


def _percent(share: float) -> str:
    return _number(100 * share, 0)


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def plain(value: Any) -> Any:
    """JSON has no NaN: a figure that does not exist is null."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
