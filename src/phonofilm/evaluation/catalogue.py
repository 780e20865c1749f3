"""Which metrics there are, and which suites they form. Modules of metrics are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from phonofilm.errors import InputError
from phonofilm.evaluation.metric import Metric, Setup

# Name -> class in metrics/NAME.py, in the order of reports.
CLASSES = {
    "amplitude": "Amplitude",
    "container": "Container",
    "dnsmos": "Dnsmos",
    "av_align": "AvAlign",
    "onset_lag": "OnsetLag",
    "nano_sync": "NanoSync",
    "inception": "Inception",
    "desync": "DeSync",
    "ib_score": "IbScore",
    "clap": "ClapScore",
    "lse": "LipSyncErrors",
    "cpcer": "CpCer",
}
SUITES = {
    "verse-bench": ("inception", "dnsmos", "desync", "ib_score", "lse", "cpcer"),
    "sync": ("container", "av_align", "onset_lag", "desync", "lse", "nano_sync"),
    "speech": ("dnsmos", "lse", "cpcer"),
    "audio": ("amplitude", "dnsmos", "inception", "clap"),
    "all": tuple(CLASSES),
}


def build(names: Sequence[str], setup: Setup) -> tuple[Metric, ...]:
    """The named metrics, in the order of reports. Raises InputError for an unknown name."""
    unknown = [name for name in names if name not in CLASSES]
    if unknown:
        raise InputError(f"there is no metric {unknown[0]!r}; there are {', '.join(CLASSES)}")
    return tuple(_class_of(name)(setup) for name in CLASSES if name in names)


def suite(name: str) -> tuple[str, ...]:
    """The names of a suite's metrics. Raises InputError for an unknown one."""
    if name not in SUITES:
        raise InputError(f"there is no suite {name!r}; there are {', '.join(SUITES)}")
    return tuple(metric for metric in SUITES[name] if metric in CLASSES)


def _class_of(name: str) -> type[Metric]:
    found: type[Metric] = getattr(import_module(f"phonofilm.evaluation.metrics.{name}"), CLASSES[name])
    return found
