"""What is to be scored and how, as it was given to `phonofilm evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import InputError

if TYPE_CHECKING:
    from phonofilm.evaluation.metric import Setup
    from phonofilm.generation.report import OnProgress


@dataclass(frozen=True)
class EvaluationOptions:
    """Options by their names on the command line. metrics: names with commas, in place of the suite."""

    output: Path | None = None
    prompts: Path | None = None
    suite: str = "all"
    metrics: str | None = None
    profile: str = "compat"
    weights: Path | None = None
    device: str = "auto"
    asr: str = ""
    asr_url: str | None = None
    jobs: int | None = None
    ray: str | None = None
    model: str = "nano"
    sets: tuple[str, ...] | None = None
    setting: tuple[str, ...] | None = None
    seed: int = 0

    def setup(self) -> Setup:
        """How to measure. Raises InputError for a word that cannot be read."""
        from phonofilm.evaluation.evaluate import make_setup

        return make_setup(self.profile, self.weights, self.device, self.asr, self.asr_url)

    def metric_names(self) -> tuple[str, ...]:
        """What to measure."""
        from phonofilm.evaluation.catalogue import suite

        return tuple(name.strip() for name in self.metrics.split(",")) if self.metrics else suite(self.suite)

    def report_folder(self, clips: list[Path], generate: bool) -> Path:
        """The folder of the report. Raises InputError without one, and unless clips are either named or made."""
        if self.output is None or bool(clips) == generate:
            raise InputError(
                "name the clips or their folder, and a folder for the report: phonofilm evaluate CLIPS -o REPORT; or no "
                "clips and --generate, which makes them"
            )
        return self.output

    def or_shipped_prompts(self) -> EvaluationOptions:
        """These options, with the small prompt file that is shipped where none was named."""
        from phonofilm.evaluation.generating import shipped_prompts

        return replace(self, prompts=self.prompts or shipped_prompts())

    def make_clips(self, output: Path, on_progress: OnProgress) -> dict[Path, list[Path]]:
        """Make the clips of `prompts` under each setting; the clips of each report."""
        from phonofilm.evaluation.generating import generate_reports

        assert self.prompts is not None
        settings, sets = self.setting or ("default",), self.sets or ()
        return generate_reports(self.model, self.device, self.prompts, sets, settings, output, self.seed, on_progress)
