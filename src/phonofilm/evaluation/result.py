"""result.json: what was measured, on what, with what, as plain JSON; its schema stands in docs/evaluation.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

from phonofilm import __version__
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.clip_list import SUFFIXES, ClipEntry
from phonofilm.evaluation.figures import MetricSummary
from phonofilm.evaluation.metric import Metric, Setup
from phonofilm.evaluation.paper import ROWS, PaperComparison
from phonofilm.evaluation.result_check import check_result
from phonofilm.evaluation.row_cache import plain
from phonofilm.evaluation.rows import Row
from phonofilm.evaluation.weights import check, digest_of
from phonofilm.files import file_hash
from phonofilm.untrusted import file_fault, parse_json, require_file

SCHEMA = 1
DIGITS = 6
RESULT_FILE, REPORT_FILE = "result.json", "report.html"
PACKAGES = (
    "phonofilm",
    "numpy",
    "torch",
    "av",
    "onnxruntime",
    "speechmos",
    "opencv-python-headless",
    "numba",
    "transformers",
)


@dataclass(frozen=True)
class Evaluated:
    """Everything that one run of the evaluation found."""

    clips: tuple[ClipEntry, ...]
    metrics: tuple[Metric, ...]
    setup: Setup
    rows: Mapping[str, Mapping[str, Row]]
    summaries: Mapping[str, MetricSummary]
    comparisons: tuple[PaperComparison, ...]
    without_clip: tuple[str, ...] = ()


def result_json(run: Evaluated, folder: Path) -> dict[str, Any]:
    """The result of a report in `folder` as JSON values, paths as seen from there.

    Keys have one order and floats six digits, so that two runs can be compared line by line.
    """
    value = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool_version": __version__,
        "profile": run.setup.profile,
        "env": _environment(run.setup),
        "inputs": [_input(clip, folder) for clip in run.clips],
        "without_clip": list(run.without_clip),
        "metrics": {metric.name: _metric(metric, run.summaries[metric.name]) for metric in run.metrics},
        "clips": [
            {"id": clip.id, "rows": {name: _clip_row(name, row, run) for name, row in run.rows[clip.id].items()}}
            for clip in run.clips
        ],
        "comparisons": [_comparison(one) for one in run.comparisons],
        "paper": [asdict(row) for row in ROWS] if run.comparisons else [],
    }
    rounded: dict[str, Any] = plain(value, DIGITS)
    return rounded


def write_result(run: Evaluated, folder: Path, file: Path) -> None:
    """Write the result of a report in `folder` into `file`."""
    text = json.dumps(result_json(run, folder), indent=1, ensure_ascii=False) + "\n"
    # What is no text, such as a file name of other bytes, becomes the escape that JSON has for it.
    file.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_result(path: Path) -> dict[str, Any]:
    """The result of a report folder or a result.json. Raises InputError for anything else."""
    file = path / RESULT_FILE if path.is_dir() else path
    require_file(file, "result.json")
    try:
        value = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is no result of phonofilm evaluate: {error}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or value["schema"] is True:
        raise InputError(f"{file} is no result of phonofilm evaluate of schema {SCHEMA}; evaluate those clips again")
    check_result(value, str(file))
    return value


def clip_files(path: Path) -> dict[str, Path]:
    """Where the clips of a report are, by id; those alone that are still what was measured.

    A result.json comes from elsewhere: it must not make a page show whatever file it names.
    """
    folder = path if path.is_dir() else path.parent
    files = {one["id"]: (folder / one["path"], one.get("sha256")) for one in read_result(path)["inputs"]}
    return {name: file for name, (file, sha256) in files.items() if _is_still(file, sha256)}


def _is_still(file: Path, sha256: object) -> bool:
    if file.suffix.lower() not in SUFFIXES or file_fault(file) is not None:
        return False
    try:
        return file_hash(file) == sha256
    except InputError:
        return False


def _input(clip: ClipEntry, folder: Path) -> dict[str, Any]:
    facts = ClipFacts(clip.path, clip.id)
    prompt = clip.item.prompt if clip.item else None
    return {
        "id": clip.id,
        "category": clip.category,
        "path": Path(os.path.relpath(os.path.realpath(clip.path), os.path.realpath(folder))).as_posix(),
        "sha256": _sha256(facts),
        "probe": _probe(facts),
        "prompt": prompt,
    }


def _sha256(facts: ClipFacts) -> str | None:
    try:
        return facts.sha256
    except PhonofilmError:  # its rows say why
        return None


def _probe(facts: ClipFacts) -> dict[str, Any]:
    """What the container says without decoding; the error where it cannot be opened."""
    try:
        tracks = facts.tracks
    except PhonofilmError as error:
        return {"error": str(error)}
    height, width = tracks.size or (None, None)
    return {
        "width": width,
        "height": height,
        "picture_start": _seconds(tracks.picture_start),
        "sound_start": _seconds(tracks.sound_start),
    }


def _seconds(time: Fraction | None) -> float | None:
    return None if time is None else float(time)


def _metric(metric: Metric, summary: MetricSummary) -> dict[str, Any]:
    first = metric.figures[0]
    value = summary.figures.get(first.name)
    lacks = check(metric, hashes=True)
    return {
        "title": metric.title,
        "better": first.better,
        "unit": first.unit,
        "source": metric.source,
        "state_counts": dict(summary.states),
        "value": value.value if value else None,
        "ci95": value.ci95 if value else None,
        "n_ok": summary.ok_of(first),
        "n_total": summary.total,
        "chance": summary.chance_of(first),
        "figures": {
            figure.name: {
                "label": figure.label,
                "unit": figure.unit,
                "better": figure.better,
                "chance": figure.chance,
                "value": summary.figures[figure.name].value,
                "ci95": summary.figures[figure.name].ci95,
                "n_ok": summary.ok_of(figure),
            }
            for figure in metric.figures
            if figure.name in summary.figures
        },
        "per_category": {name: dict(values) for name, values in summary.per_category.items()},
        "requires": _requires(metric),
        "readiness": lacks.readiness,
        "reasons": [{"reason": reason, "clips": count} for reason, count in summary.reasons],
        "notes": list(metric.notes),
    }


def _requires(metric: Metric) -> list[dict[str, Any]]:
    needs, folder = metric.needs, metric.setup.weights
    packages = [{"kind": "package", "name": one.module, "extra": one.extra} for one in needs.packages]
    weights = [
        {
            "kind": "weights",
            "name": one.name,
            "sha256": one.sha256,
            "bytes": one.nbytes,
            "licence": one.licence,
            "found": (found := digest_of(one, folder)) != "",
            "sha256_found": found or None,
        }
        for one in needs.weights
    ]
    return [*packages, *weights, *({"kind": "key", "name": key} for key in needs.keys)]


def _clip_row(name: str, row: Row, run: Evaluated) -> dict[str, Any]:
    (metric,) = (one for one in run.metrics if one.name == name)
    first = metric.figures[0].name
    return {
        "state": row.state,
        "value": row.values.get(first),
        "values": dict(row.values),
        "detail": dict(row.detail),
        "reason": row.reason,
        "seconds": round(row.seconds, 3),
    }


def _comparison(one: PaperComparison) -> dict[str, Any]:
    return {
        "column": one.column.name,
        "metric": one.column.metric,
        "better": one.column.better,
        "value": one.value,
        "ci95": one.ci95,
        "n_ok": one.ok,
        "n_total": one.total,
        "comparable": one.comparable,
        "reasons": list(one.reasons),
    }


def _environment(setup: Setup) -> dict[str, Any]:
    import av

    return {
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "ffmpeg": ".".join(str(part) for part in av.library_versions["libavcodec"]),
        "device": setup.device,
        "asr": setup.asr,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
