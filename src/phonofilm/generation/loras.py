"""LoRAs of a clip: their files are found, read and checked before any weight is loaded, and then put into the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import InputError
from phonofilm.files import file_hash
from phonofilm.generation.provenance import OWN_STUDENT, portable_path
from phonofilm.lora.adapter import LoraFile
from phonofilm.lora.strength import (
    NO_LORA,
    LoraChoice,
    Strength,
    idle_strengths,
    parse_lora_option,
    strengths_of,
    tell_strength,
)
from phonofilm.lora.target_layers import check_plain, empty_components
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.layout import CheckpointLayout

if TYPE_CHECKING:
    from phonofilm.pipeline.mova import MovaPipeline


@dataclass(frozen=True)
class LoraUse:
    """A LoRA that goes into a clip: where it is, what it holds, how strongly it works."""

    path: Path
    sha256: str
    lora: LoraFile
    strength: Strength
    expert: str | None
    own: bool = False

    @property
    def name(self) -> str:
        """The file's, with its folder's, for those whose folder says what they are."""
        return "/".join(self.path.absolute().parts[-2:])

    def metadata(self) -> dict[str, str]:
        """What a clip's metadata holds of it."""
        return {
            "path": OWN_STUDENT if self.own else portable_path(self.path),
            "sha256": self.sha256,
            "strength": tell_strength(self.strength, self.expert),
        }

    @cached_property
    def strengths(self) -> set[float]:
        """Every strength that one of its layers has; 0 alone where it changes nothing."""
        return strengths_of(self.strength, self._layers)

    @property
    def _layers(self) -> list[tuple[str, str]]:
        return [(component, path) for component, path, _ in self.lora.items()]

    @property
    def idle(self) -> str | None:
        """Why some of what was asked of it changes nothing, or None."""
        if self.strengths == {0}:
            return f"lora={self.path.name} changes nothing: its strength is 0"
        names = idle_strengths(self.strength, self._layers)
        return (
            f"the strength of {', '.join(names)} changes nothing: {self.path.name} has no such layers"
            if names
            else None
        )

    @property
    def summary(self) -> str:
        """For the plan's line: the file's name and strength."""
        if self.own:
            return f"{OWN_STUDENT} of this checkpoint" + (
                "" if self.strength == 1 else f" ({tell_strength(self.strength)})"
            )
        return f"{self.path.name} ({tell_strength(self.strength, self.expert)})"


@dataclass
class LoraFiles:
    """The LoRA files a run has read for one checkpoint, each once."""

    layout: CheckpointLayout
    _read: dict[tuple[Path, str | None], tuple[str, LoraFile]] = field(default_factory=dict)

    def take(self, texts: Sequence[str] | None) -> tuple[LoraUse, ...]:
        """The LoRAs that LoRA texts name. Raises InputError and CheckpointError as `read_lora`, and for one named twice."""
        choices = [self._named(parse_lora_option(text)) for text in texts or () if text != NO_LORA]
        if texts and NO_LORA in texts and choices:
            raise InputError(
                f"lora={NO_LORA} takes all LoRAs away, and {choices[0].path} was given too; give one of them"
            )
        paths = [choice.path for choice in choices]
        if twice := [path for path in paths if paths.count(path) > 1]:
            raise InputError(
                f"the LoRA {twice[0]} was given twice; give it once, with the strength that it should have"
            )
        return tuple(self._use(choice) for choice in choices)

    def _use(self, choice: LoraChoice) -> LoraUse:
        from phonofilm.lora.reading import read_lora

        key = (choice.path, choice.expert)
        if key not in self._read:
            check_plain(self.layout)
            lora = read_lora(choice.path, empty_components(self.layout), expert=choice.expert)
            self._read[key] = (file_hash(choice.path), lora)
        return LoraUse(
            choice.path, *self._read[key], choice.strength, choice.expert, own=choice.path == self.student_file
        )

    @cached_property
    def student_file(self) -> Path | None:
        """The checkpoint's own student of few steps, if it has one."""
        path = self.layout.folder / STUDENT_FILE
        return path if path.is_file() else None

    def _named(self, choice: LoraChoice) -> LoraChoice:
        """The choice with the checkpoint's own student's file where that is meant."""
        if choice.path != Path(OWN_STUDENT) or choice.path.exists():
            return choice
        if self.student_file is None:
            raise InputError(f"lora={OWN_STUDENT}: {self.layout.folder.name} has no {STUDENT_FILE}; give a file")
        return replace(choice, path=self.student_file)


def use_loras(pipe: MovaPipeline, uses: Sequence[LoraUse]) -> None:
    """Make the pipeline's LoRAs these and no others; weights that stay as they are are not touched."""
    wanted = {f"{use.path}|{use.expert}": use for use in uses}
    loaded = {name for names in pipe.get_list_adapters().values() for name in names}
    if gone := [name for name in loaded if name not in wanted]:
        pipe.delete_adapters(gone)
    for name, use in wanted.items():
        if name not in loaded:
            pipe.load_lora_weights(use.lora, name, weight=use.strength)
    if wanted:
        pipe.set_adapters(list(wanted), [use.strength for use in wanted.values()])
