"""What the doctor can say about a clip: the values and the thresholds' meaning. How each is found is in the files beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing about one clip; a note is a measurement and no fault. kind: a stable word for programs. fixable: `--fix`
    makes a copy without it.

    value: the measured number behind the message, in the unit that the message names; None where there is none.
    """

    severity: Severity
    clip: str
    kind: str
    message: str
    value: float | None = None
    fixable: bool = False


FAULT_COLUMNS = ("", "clip", "what", "", "fix")


def fault_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """A row of FAULT_COLUMNS for each finding that is a fault; the first word is its severity."""
    faults = (one for one in findings if one.severity != "note")
    return [(one.severity, one.clip, one.kind, one.message, "--fix" * one.fixable) for one in faults]


def counted_faults(findings: Sequence[Finding], clips: int) -> str:
    """How many clips were examined, and how many faults were found."""
    severities = [one.severity for one in findings]
    return f"{clips} clips, {severities.count('error')} errors, {severities.count('warning')} warnings"


def is_fit(findings: Sequence[Finding]) -> bool:
    """Whether a set with these findings can be trained on: warnings cost quality, errors teach something wrong."""
    return all(finding.severity != "error" for finding in findings)


def as_json(findings: Sequence[Finding], clips: int) -> dict[str, Any]:
    """The whole report as plain values."""
    return {"clips": clips, "fit": is_fit(findings), "findings": [asdict(finding) for finding in findings]}
