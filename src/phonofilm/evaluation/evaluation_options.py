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
    suite: str | None = None
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
        """What to measure. Raises InputError for no name, and for both a suite and names."""
        from phonofilm.evaluation.catalogue import CLASSES, suite

        if self.metrics is None:
            return suite("all" if self.suite is None else self.suite)
        if self.suite is not None:
            raise InputError(f"--suite {self.suite} and --metrics {self.metrics} both say what to measure; give one")
        names = tuple(name.strip() for name in self.metrics.split(",") if name.strip())
        if not names:
            raise InputError(f"--metrics {self.metrics!r} names no metric; there are {', '.join(CLASSES)}")
        return names

    def report_folder(self, clips: list[Path], generate: bool) -> Path:
        """The folder of the report. Raises InputError without one, and unless clips are either named or made."""
        from phonofilm.evaluation.clip_list import list_clips
        from phonofilm.evaluation.prompt_items import read_prompt_items

        if bool(clips) == generate:
            fault = "--generate makes the clips itself" if generate else "no clips are named"
            raise InputError(f"{fault}: phonofilm evaluate CLIPS -o REPORT, or phonofilm evaluate --generate -o REPORT")
        if self.setting and not generate:
            raise InputError("--setting says how clips are made, and none are made without --generate")
        if self.output is None:
            if clips:  # what is wrong with them is worth knowing too
                list_clips(clips, read_prompt_items(self.prompts) if self.prompts else ())
            raise InputError("-o is missing: name a folder for the report, phonofilm evaluate CLIPS -o REPORT")
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
