"""What pages of the evaluation are made of: escaped HTML, tables, curves as SVG, media embedded or linked. No metric here."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from phonofilm.untrusted import file_fault

MOST_SHOWN = 80  # characters of a text in a cell before it is opened
WIDTH, LEFT = 560.0, 4.0  # of a drawing, in its own units
TYPES = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mp4", ".webm": "webm", ".mkv": "webm", ".avi": "avi"}


def document(title: str, body: str, script: str, style: str = "report.css") -> str:
    """One self-contained page: style and script from evaluation/page/ inside it, and a policy that forbids other sources."""
    files = resources.files("phonofilm.evaluation") / "page"
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; media-src 'self' data: file:"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>\n{(files / style).read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<script>\n{(files / script).read_text(encoding='utf-8')}</script>\n</body>\n</html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] = ()) -> str:
    """Cells are HTML, a whole `<td ...>` or `<th ...>` where they need a class; classes: of the rows, where they have one."""
    head = "".join(name if name.startswith("<th") else f'<th scope="col">{name}</th>' for name in header)
    named = [*classes, *([""] * (len(rows) - len(classes)))]
    body = "".join(
        f'<tr class="{name}">'
        + "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row)
        + "</tr>"
        for name, row in zip(named, rows, strict=True)
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def foldable(text: str) -> str:
    """A text of any length in a cell: of a long one the beginning, and all of it when that is opened."""
    if len(text) <= MOST_SHOWN:
        return escape(text)
    beginning = text[:MOST_SHOWN].rpartition(" ")[0] or text[:MOST_SHOWN]
    return f"<details><summary>{escape(beginning)} …</summary>{escape(text)}</details>"


def media_source(path: Path, folder: Path, embedded: bool) -> str:
    """The address of a clip in a page that lies in `folder`: its bytes, or where it lies from there.

    Empty for one that cannot be read, as when it was removed after it was measured.
    """
    if not embedded:
        return escape(quote(os.fsencode(os.path.relpath(os.path.realpath(path), os.path.realpath(folder)))), quote=True)
    kind = TYPES.get(path.suffix.lower(), "mp4")
    try:
        return f"data:video/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    except OSError:
        return ""


def all_fit(paths: Iterable[Path], most: int) -> bool:
    """Whether files take `most` bytes together at most; those that are gone take none."""
    return sum(path.stat().st_size for path in paths if file_fault(path) is None) <= most


def wave_path(envelope: NDArray[np.float64], top: float, height: float) -> str:
    """A waveform's outline from its peaks [n] within 0..1, mirrored around its middle."""
    x = LEFT + np.arange(len(envelope)) * (WIDTH - 2 * LEFT) / max(1, len(envelope) - 1)
    middle, half = top + height / 2, np.clip(envelope, 0.004, 1) * height / 2
    upper = [f"{a:.1f},{middle - b:.1f}" for a, b in zip(x, half, strict=True)]
    lower = [f"{a:.1f},{middle + b:.1f}" for a, b in zip(x[::-1], half[::-1], strict=True)]
    return f'<polygon class="wave" points="{" ".join([*upper, *lower])}"/>'


def curve(values: Sequence[float], top: float, height: float, name: str = "motion") -> str:
    """A line through evenly spaced values, scaled to its own range."""
    y = np.asarray(values, float)
    if len(y) < 2:
        return ""
    spread = float(y.max() - y.min()) or 1.0
    x = LEFT + np.arange(len(y)) * (WIDTH - 2 * LEFT) / (len(y) - 1)
    scaled = top + height * (1 - (y - y.min()) / spread)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, scaled, strict=True))
    return f'<polyline class="{name}" points="{points}"/>'


def ticks(times: Sequence[float], seconds: float, top: float, height: float, name: str) -> str:
    """A stroke at each time."""
    x = [LEFT + (WIDTH - 2 * LEFT) * time / max(seconds, 1e-9) for time in times]
    return "".join(f'<line class="{name}" x1="{a:.1f}" x2="{a:.1f}" y1="{top:g}" y2="{top + height:g}"/>' for a in x)


def cursor(seconds: float, height: float) -> str:
    """The line that follows the player; report.js moves it."""
    return (
        f'<line class="cursor" x1="{LEFT}" x2="{LEFT}" y1="0" y2="{height:g}" data-left="{LEFT}" '
        f'data-width="{WIDTH - 2 * LEFT}" data-seconds="{seconds:.4f}"/>'
    )


def drawing(parts: Sequence[str], height: float, label: str) -> str:
    """An SVG of the parts."""
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(label, quote=True)}">{inside}</svg>'


def figure_text(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}g}"
