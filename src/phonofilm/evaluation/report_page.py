"""report.html: the published table with our row, every figure with its interval, and a card per clip. One file, no requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from phonofilm.evaluation.clip_cards import clip_card, player
from phonofilm.evaluation.compare import PairedDifference, PairedFigure, without_partner
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.page_parts import all_fit, document, figure_text, foldable, media_source, table
from phonofilm.evaluation.paper import COLUMNS, ROWS, PaperComparison
from phonofilm.evaluation.result import Evaluated, clip_files
from phonofilm.evaluation.rows import STATES
from phonofilm.units import counted

MOST_REASONS = 4  # that the table of figures names for a metric
MOST_EMBEDDED = 48 * 2**20  # bytes of clips that the page holds itself; beyond, it links them


def write_page_of(run: Evaluated, folder: Path, file: Path) -> None:
    """Write the page of a report in `folder` into `file`. Clips are inside it up to 48 MiB together; larger sets are linked."""
    embedded = all_fit((clip.path for clip in run.clips), MOST_EMBEDDED)
    cards = [clip_card(clip, run.rows[clip.id], run.metrics, folder, embedded) for clip in run.clips]
    body = "\n".join(
        [
            f"<h1>Evaluation of {counted(len(run.clips), 'clip')}</h1>",
            _facts(run, embedded),
            *_paper(run.comparisons),
            "<h2>All figures</h2>",
            _figures(run),
            "<h2>Clips</h2>",
            _filters(run),
            *cards,
        ]
    )
    file.write_text(document("Phonofilm evaluation", body, "report.js"), encoding="utf-8", errors="backslashreplace")


def compare_page(
    found: Sequence[PairedDifference], clips: Sequence[PairedFigure], first: Path, second: Path, folder: Path
) -> str:
    """The page of a comparison of two reports, which lies in `folder`: differences, and the clips of both side by side."""
    rows = [
        [
            escape(one.label),
            figure_text(one.first),
            figure_text(one.second),
            f"{one.difference:+.4g}",
            _interval(None if one.low is None or one.high is None else (one.low, one.high)),
            str(one.clips),
            f'<td class="text">{escape(one.verdict)}</td>',
        ]
        for one in found
    ]
    header = ["figure", "A", "B", "B − A", "95 %", "clips", '<th class="text" scope="col">difference</th>']
    ours, theirs = clip_files(first), clip_files(second)
    alone = without_partner(ours, theirs)
    body = (
        f"<h1>Two reports, clip by clip</h1><p>A: {escape(str(first))}<br>B: {escape(str(second))}</p>"
        '<p class="soft">Means over the clips that are ok in both, each clip counting alike, so that they differ from a '
        "report's where that counts events, characters or categories; the interval is that of the mean difference, over clips "
        f"drawn with replacement{escape(f'; {alone}') if alone else ''}.</p>{table(header, rows)}"
        f"<h2>Clips</h2>{_pairs(ours, theirs, clips, folder)}"
    )
    return document("Phonofilm evaluation: comparison", body, "report.js")


def _pairs(ours: Mapping[str, Path], theirs: Mapping[str, Path], clips: Sequence[PairedFigure], folder: Path) -> str:
    """A card with two players in step for every clip of both reports that is still where it was, and its figures."""
    pairs = {name: (ours[name], theirs[name]) for name in ours if name in theirs}
    embedded = all_fit((file for files in pairs.values() for file in files), MOST_EMBEDDED)
    cards = []
    for name, files in pairs.items():
        sources = [(label, media_source(file, folder, embedded)) for label, file in zip("AB", files, strict=True)]
        label = escape(name, quote=True)
        cards.append(
            f'<article class="card" data-category="" data-states="" tabindex="0" aria-label="{label}">'
            f"<header><h3>{escape(name)}</h3></header>{player(sources)}{_both([c for c in clips if c.clip == name])}</article>"
        )
    return "".join(cards)


def _both(figures: Sequence[PairedFigure]) -> str:
    rows = [
        [escape(one.label), figure_text(one.first), figure_text(one.second), f"{one.second - one.first:+.4g}"]
        for one in figures
    ]
    return (
        f"<details open><summary>Figures</summary>{table(['figure', 'A', 'B', 'B − A'], rows)}</details>"
        if rows
        else ""
    )


def _facts(run: Evaluated, embedded: bool) -> str:
    facts = [f"profile {run.setup.profile}", f"device {run.setup.device}"]
    if run.without_clip:
        facts.append(f"{counted(len(run.without_clip), 'prompt')} without a clip")
    if not embedded:
        facts.append("clips are linked, so keep this page where it is")
    return (
        f'<p class="soft">{escape(", ".join(facts))}. Figures are over clips whose row is ok, with the number of them and a '
        "95 % interval: the mean of the categories' means; for lse that of all clips, for nano_sync and cpcer the share of "
        "all clips' events and characters. “–” means that there is no figure, never zero.</p>"
    )


def _paper(comparisons: Sequence[PaperComparison]) -> list[str]:
    """The published table and our row; cells that may not be compared are grey, their reasons below."""
    if not comparisons:
        return []
    ours = {one.column.name: one for one in comparisons}
    header = ["model", "s<sub>B</sub>", *(f"{c.name} {'↑' if c.better == 'higher' else '↓'}" for c in COLUMNS)]
    reasons: dict[str, int] = {}
    cells = ["these clips", "–", *(_our_cell(ours.get(column.name), reasons) for column in COLUMNS)]
    rows = [cells]
    for row in ROWS:
        bridge = "–" if row.bridge is None else f"{row.bridge:g}"
        rows.append([escape(row.model), bridge, *(_published(row.values.get(column.name)) for column in COLUMNS)])
    notes = "".join(f"<li value={index}>{foldable(reason)}</li>" for reason, index in reasons.items())
    below = f'<p>Not comparable with the published rows:</p><ol class="soft">{notes}</ol>' if notes else ""
    return ["<h2>Verse-Bench</h2>", table(header, rows, ["ours"]), below]


def _our_cell(one: PaperComparison | None, reasons: dict[str, int]) -> str:
    if one is None:
        return '<td class="greyed">not asked</td>'
    value = _published(one.value)
    detail = f"<br><small>{one.ok} of {one.total}</small>"
    if one.comparable:
        return f"<td>{value}{detail}</td>"
    marks = ", ".join(str(reasons.setdefault(reason, len(reasons) + 1)) for reason in one.reasons)
    title = escape("; ".join(one.reasons), quote=True)
    return f'<td class="greyed" title="{title}">{value}{detail} <sup>{marks}</sup></td>'


def _published(value: float | None) -> str:
    """With three decimals, as the table was printed."""
    return "–" if value is None else f"{value:.3f}"


def _figures(run: Evaluated) -> str:
    rows = []
    for metric in run.metrics:
        for at, figure in enumerate(metric.own_figures):
            rows.append(_figure_row(run, metric, figure, first=at == 0))
    header = ["figure", "", "value", "95 %", "chance", "n of N", '<th class="text" scope="col">what to know</th>']
    return table(header, rows)


def _figure_row(run: Evaluated, metric: Metric, figure: Figure, *, first: bool) -> list[str]:
    summary = run.summaries[metric.name]
    found = summary.figures.get(figure.name)
    reasons = [f"{count} × {reason}" for reason, count in summary.reasons]
    if len(reasons) > MOST_REASONS:
        rest = sum(count for _, count in summary.reasons[MOST_REASONS - 1 :])
        reasons[MOST_REASONS - 1 :] = [f"{rest} × something else, in the clips' rows"]
    notes = [*metric.notes, *reasons] if first else []
    better = {"higher": "↑", "lower": "↓", "none": ""}[figure.better]
    value = "–" if found is None else f"{figure_text(found.value)} {escape(figure.unit)}"
    return [
        f"{escape(metric.title)}: {escape(figure.label)}" if first else escape(figure.label),
        better,
        value,
        _interval(found.ci95 if found else None),
        figure_text(summary.chance_of(figure)),
        f"{summary.ok_of(figure)} of {summary.total}",
        f'<td class="text"><small>{foldable("; ".join(notes))}</small></td>',
    ]


def _interval(ci95: tuple[float, float] | None) -> str:
    return "–" if ci95 is None else f"{figure_text(ci95[0])} to {figure_text(ci95[1])}"


def _filters(run: Evaluated) -> str:
    categories = dict.fromkeys(clip.category for clip in run.clips if clip.category)

    def options(names: Sequence[str], every: str) -> str:
        chosen = "".join(
            f'<option value="{escape(name, quote=True)}">{escape(name.replace("_", " ") if name in STATES else name)}</option>'
            for name in names
        )
        return f'<option value="">{every}</option>{chosen}'

    return (
        '<div class="bar"><label>Category <select id="category">'
        f"{options(list(categories), 'all')}</select></label>"
        f'<label>With a row that is <select id="state">{options(STATES, "anything")}</select></label>'
        '<output id="count" aria-live="polite"></output>'
        '<span class="soft">In a card: space plays, ← → seek, , . step a frame</span></div>'
    )
