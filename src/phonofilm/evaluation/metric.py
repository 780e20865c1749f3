"""What a metric is: its figures, what it needs, how it reads one clip, and how clips make a set. No metric lives here.

To add one: a file in metrics/ with a class below `Metric`, and its line in catalogue.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.requirements import Requirements
from phonofilm.evaluation.rows import Row

Profile = Literal["compat", "fixed"]
PROFILES: tuple[Profile, ...] = ("compat", "fixed")
Better = Literal["higher", "lower", "none"]
Pooling = Literal["categories", "clips"]


@dataclass(frozen=True)
class Figure:
    """One number of a metric.

    better: which way is better, "none" where neither is. chance: the figure of the same row that holds its chance level, or
    the level itself. paper: the column of the published table that it stands in.
    """

    name: str
    label: str
    unit: str = ""
    better: Better = "none"
    chance: str | float | None = None
    paper: str | None = None


@dataclass(frozen=True)
class Setup:
    """How metrics measure in one run.

    weights: the folder where `WeightFile`s are looked for. device: where networks run. asr, asr_url: the model that
    transcribes, and the OpenAI-compatible address where it is asked; without one the model is on this machine.
    asr_key: the environment variable with the key for that address.
    """

    profile: Profile = "compat"
    weights: Path | None = None
    device: str = "cpu"
    asr: str = ""
    asr_url: str | None = None
    asr_key: str = "OPENAI_API_KEY"


class Metric(ABC):
    """One metric under one setup.

    Built once per process and used for many clips; networks load on first use and are kept in the instance (a
    `cached_property`). Nothing heavy may be imported by a metric's module, only inside its methods.

    Attributes:
        name: as on the command line and in result.json.
        version: raised when the same clip would score differently; rows of older versions are measured anew.
        figures: the first is the metric's `value`.
        source: paper or file that defines it, in one clause.
        pooling: the whole set's figure is the mean of the categories' figures, or that of all clips together.
        alone: too large for several processes at once: runs in one process, after the others.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1
    figures: ClassVar[tuple[Figure, ...]]
    source: ClassVar[str]
    pooling: ClassVar[Pooling] = "categories"
    alone: ClassVar[bool] = False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @property
    def needs(self) -> Requirements:
        """What must be there, under this setup."""
        return Requirements()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that belong beside the figure under this setup: what deviates, which model transcribed."""
        return ()

    @property
    def identity(self) -> str:
        """What else than clip, prompt, version, profile and weights decides the row, such as the name of a model."""
        return ""

    @property
    def own_figures(self) -> tuple[Figure, ...]:
        """The figures without those that are only the chance level of another."""
        levels = {figure.chance for figure in self.figures}
        return tuple(figure for figure in self.figures if figure.name not in levels)

    @abstractmethod
    def measure(self, clip: ClipFacts) -> Row:
        """The clip's row. What `needs` asks of clip and machine is there; an exception becomes a failed row."""

    def aggregate(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """The figures of several ok rows, at least one: their means unless a metric says otherwise.

        Also called on rows drawn with replacement, for the interval. Figures that a row lacks are left out of their mean.
        """
        return {
            figure.name: float(np.mean(found))
            for figure in self.figures
            if (found := [row.values[figure.name] for row in rows if figure.name in row.values])
        }
