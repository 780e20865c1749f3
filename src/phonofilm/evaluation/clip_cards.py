"""The card of one clip in a report: player, waveform and onsets over motion, transcript, curve, rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from phonofilm.errors import PhonofilmError
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.clip_list import ClipEntry
from phonofilm.evaluation.metric import Metric
from phonofilm.evaluation.page_parts import (
    cursor,
    curve,
    drawing,
    figure_text,
    foldable,
    media_source,
    table,
    ticks,
    wave_path,
)
from phonofilm.evaluation.rows import Row

RATE, POINTS = 8000, 280
SPEAKERS = 4  # colours in report.css
ROW_HEADER = ("metric", *(f'<th class="text" scope="col">{name}</th>' for name in ("state", "value or reason")))
WAVE_HEIGHT, MOTION_HEIGHT = 60.0, 60.0
# Curves and times that metrics leave in their series, in the order of preference.
MOTION = (("av_align", "motion"), ("onset_lag", "impact"))
HEARD = (("nano_sync", "onset_times"), ("av_align", "onset_times"))
SEEN = (("nano_sync", "event_times"), ("av_align", "motion_times"))


def clip_card(clip: ClipEntry, rows: Mapping[str, Row], metrics: Sequence[Metric], folder: Path, embedded: bool) -> str:
    """The card as HTML. A clip that cannot be decoded has no drawing."""
    source = media_source(clip.path, folder, embedded)
    states = " ".join(sorted({row.state for row in rows.values()}))
    prompt = f'<p class="soft">{escape(clip.item.prompt)}</p>' if clip.item else ""
    category = f'<span class="soft">{escape(clip.category)}</span>' if clip.category else ""
    return (
        f'<article class="card" data-category="{escape(clip.category, quote=True)}" data-states="{states}" tabindex="0" '
        f'aria-label="{escape(clip.id, quote=True)}"><header><h3>{escape(clip.id)}</h3>{category}</header>{prompt}'
        f'<div class="grid"><div>{_shown(clip, source, rows)}</div><div>{_drawings(clip, rows)}</div></div>'
        f"{_problems(rows)}{_transcript(rows)}{_rows(rows, metrics)}</article>"
    )


def _shown(clip: ClipEntry, source: str, rows: Mapping[str, Row]) -> str:
    """The player; none for a file that no metric could read, since no player plays it either: its problems say why."""
    states = {row.state for row in rows.values()}
    if "failed" in states and states <= {"failed", "unavailable"}:
        return ""
    return player([(clip.id, source)]) if source else '<p class="soft">the file cannot be read now</p>'


def player(sources: Sequence[tuple[str, str]]) -> str:
    """Players in step, one seek bar for all: (name, address) of each."""
    shown = "".join(
        f'<figure class="player"><video src="{source}" preload="metadata" playsinline tabindex="-1"></video>'
        f'<figcaption><span class="soft">{escape(name)}</span><button class="solo" type="button" '
        f'aria-label="hear {escape(name, quote=True)}">Muted</button></figcaption></figure>'
        for name, source in sources
    )
    return (
        f'<div class="players">{shown}</div><div class="transport"><button class="play" type="button">Play</button>'
        '<input class="seek" type="range" min="0" max="1000" value="0" aria-label="position">'
        '<output class="time">0.00 s</output><label>sound later by '
        '<input class="offset" type="range" min="-500" max="500" step="20" value="0" '
        'aria-label="move the sound, in milliseconds"></label><output class="moved">+0 ms</output></div>'
    )


def _drawings(clip: ClipEntry, rows: Mapping[str, Row]) -> str:
    try:
        facts = ClipFacts(clip.path, clip.id)
        wave = facts.aligned_wave(RATE) if facts.has_sound else np.zeros(1, np.float32)
    except PhonofilmError:
        return ""
    seconds = _seconds(rows, len(wave) / RATE)
    motion, heard, seen = (_first(rows, names) for names in (MOTION, HEARD, SEEN))
    total = WAVE_HEIGHT + MOTION_HEIGHT + 18
    parts = [wave_path(_envelope(wave, seconds), 0.0, WAVE_HEIGHT), ticks(heard, seconds, 0.0, WAVE_HEIGHT, "onset")]
    parts += [curve(motion, WAVE_HEIGHT, MOTION_HEIGHT), ticks(seen, seconds, WAVE_HEIGHT, MOTION_HEIGHT, "seen")]
    above = f"sound{' and its onsets' if heard else ''}"
    below = f", below: motion{' and its peaks' if seen else ''}" if len(motion) else ""
    label = f"0 to {seconds:.2f} s; above: {above}{below}"
    parts += [f'<text x="4" y="{total - 4:g}">{escape(label)}</text>', cursor(seconds, WAVE_HEIGHT + MOTION_HEIGHT)]
    return drawing(parts, total, label) + _distances(rows) + _correlation(rows)


def _seconds(rows: Mapping[str, Row], sound: float) -> float:
    """The picture's length where a metric read it, else the sound's."""
    picture: Mapping[str, Any] = rows["container"].detail.get("picture", {}) if "container" in rows else {}
    return float(picture.get("seconds") or sound or 1.0)


def _envelope(wave: np.ndarray, seconds: float) -> np.ndarray:
    """The peaks of `POINTS` even parts of the clip's length, the largest of them 1."""
    fitted = np.pad(wave, (0, max(0, round(seconds * RATE) - len(wave))))[: max(POINTS, round(seconds * RATE))]
    parts = np.array([np.abs(part).max(initial=0.0) for part in np.array_split(fitted, POINTS)])
    return parts / max(float(parts.max()), 1e-6)


def _first(rows: Mapping[str, Row], names: Sequence[tuple[str, str]]) -> Sequence[float]:
    for metric, series in names:
        if metric in rows and rows[metric].series.get(series):
            return rows[metric].series[series]
    return ()


def _distances(rows: Mapping[str, Row]) -> str:
    """SyncNet's mean distance over offsets, where it was measured."""
    series = rows["lse"].series if "lse" in rows else {}
    values, offsets = series.get("distance"), series.get("offset_seconds")
    if not values or not offsets:
        return ""
    first, last = min(offsets), max(offsets)
    label = f"SyncNet's mean distance for offsets of {first:+.2f} to {last:+.2f} s; lowest {min(values):.2f}"
    return drawing([curve(values, 4, 56, "curve"), f'<text x="4" y="76">{escape(label)}</text>'], 80, label)


def _correlation(rows: Mapping[str, Row]) -> str:
    """Onset lag's correlation over lags, where it was measured."""
    row = rows.get("onset_lag")
    if row is None or not row.series.get("correlation"):
        return ""
    label = f"onset lag: agreement of motion and sound for -1 to +1 s (p = {row.detail.get('p', 1):.3f}"
    rival = row.detail.get("rival", 0.0)
    label += f"; next best {row.detail['rival_ms']:+.0f} ms, {rival:.0%} as well)" if rival else ")"
    found = [1 + row.values["lag_ms"] / 1000] if "lag_ms" in row.values else []
    lines = ticks([1.0], 2.0, 4, 46, "axis") + ticks(found, 2.0, 4, 46, "onset")  # no lag, and the one that was found
    parts = [curve(row.series["correlation"], 4, 46, "curve"), lines, f'<text x="4" y="66">{escape(label)}</text>']
    return drawing(parts, 70, label)


def _problems(rows: Mapping[str, Row]) -> str:
    """What is wrong with the file, and why rows failed: what somebody who looks at the clip has to know."""
    found = list(rows["container"].detail.get("problems", ())) if "container" in rows else []
    found += [row.reason for row in rows.values() if row.state == "failed"]
    lines = "".join(f"<li>{escape(str(one))}</li>" for one in dict.fromkeys(found))
    return f'<ul class="problems">{lines}</ul>' if lines else ""


def _transcript(rows: Mapping[str, Row]) -> str:
    """What was understood, a line per speaker's turn, beside what should be said."""
    detail = rows["cpcer"].detail if "cpcer" in rows else {}
    heard, asked = (_turns(str(detail.get(name, ""))) for name in ("transcript", "reference"))
    if not heard and not asked:
        return ""
    return f'<details open><summary>Transcript</summary>{heard}<p class="soft">to be said:</p>{asked}</details>'


def _turns(tagged: str) -> str:
    """ "[S01] Hello. [S02] Yes." as lines, each speaker in a colour of its own; what comes before the first tag has none."""
    before, *rest = re.split(r"\[S(\d+)\]", tagged)
    turns = [("", before), *zip(rest[::2], rest[1::2], strict=True)]
    return "".join(
        f'<div class="line"><b class="speaker{int(number[-4:] or 0) % SPEAKERS}">{f"S{number}" if number else "–"}</b>'
        f"<span>{escape(text.strip())}</span></div>"
        for number, text in turns
        if text.strip()
    )


def _rows(rows: Mapping[str, Row], metrics: Sequence[Metric]) -> str:
    lines = []
    for metric in metrics:
        row = rows[metric.name]
        values = ", ".join(
            f"{escape(figure.label)} {figure_text(row.values[figure.name])} {escape(figure.unit)}".strip()
            for figure in metric.figures
            if figure.name in row.values
        )
        found = values or foldable(row.reason)
        state = f'<td class="text"><span class="state {row.state}">{row.state.replace("_", " ")}</span></td>'
        lines.append([escape(metric.title), state, f'<td class="text">{found}</td>'])
    return f"<details><summary>Rows</summary>{table(ROW_HEADER, lines)}</details>"
