"""The embedded model's student beside its teacher: held-out clips, read by the world's readers and by general ones.

    python -m benchmarks.few_steps -o DIR [--clips 64] [--only WORD ...] [--lora FILE]

Every row makes the same clips out of the same noise: from text alone, from a first frame, and the sound for a given picture.
Clips are kept in DIR, and a second call takes up what is there. `--only student` makes the rows whose name has the word.
`changes` is of a second reader, which knows nothing of the world: the picture's sudden changes against the sound's onsets, the
lag at which they agree best over all clips, how well, and (in brackets) how well pictures agree with the sounds of other clips.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from phonofilm import MovaPipeline
from phonofilm.media.onsets import ONSET_HOP_SECONDS, onset_strength
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.hub import PACKAGED_WEIGHTS
from phonofilm.nano.world import WorldClip
from recipes.nano.measuring.generated_clips import ClipMaker, GeneratedClip, MeasurePlan, held_out_clips
from recipes.nano.measuring.measure import FROM_FRAME, FROM_TEXT, SOUND_FOR_CLIP
from recipes.nano.measuring.measure_rows import MeasureRow, own_row, read

TASKS = (FROM_TEXT, FROM_FRAME, SOUND_FOR_CLIP)
GRID, LAGS = 1 / 240, 60  # seconds, and steps to either side: a quarter of a second
HEAD = (
    "| row | forwards | clips | events | within a frame | misses | extras | scene | colour | pitch | vowel "
    "| changes | s a clip |"
)


@dataclass(frozen=True)
class Sampler:
    """One way of sampling. guidance: of all three kinds. student: with the LoRA. by_file: as the LoRA's file says."""

    name: str
    steps: int
    guidance: float
    student: bool = False
    by_file: bool = False

    @property
    def forwards(self) -> int:
        """Two a guided step: one with the prompt and the bridge, one without both."""
        return self.steps * (1 if self.guidance == 1 else 2)


SAMPLERS = (
    Sampler("student of 4 steps", 4, 1.0, student=True, by_file=True),
    Sampler("teacher, 8 guided steps", 8, 3.0),
    Sampler("teacher, 25 guided steps", 25, 3.0),
    Sampler("student in 2 steps", 2, 1.0, student=True),
    Sampler("teacher, 4 guided steps", 4, 3.0),
    Sampler("teacher, 4 steps without guidance", 4, 1.0),
)


@dataclass(frozen=True)
class SecondReading:
    """Sudden changes of the picture against onsets of the sound, their correlation averaged over clips. No colour, no place.

    lag_ms: where it is highest; positive: sound after picture. peak: how high. shuffled: the highest of pictures with the
    sounds of other clips of their scene, which is the chance level.
    """

    lag_ms: float
    peak: float
    shuffled: float


def measure(sampler: Sampler, lora: Path, clips: int, folder: Path) -> list[tuple[MeasureRow, SecondReading]]:
    """A row for each task."""
    pipe = MovaPipeline.from_pretrained("nano", torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if sampler.student:
        pipe.load_lora_weights(lora)
    plan = MeasurePlan(clips=clips)  # a student's file says how it is sampled
    if not sampler.by_file:
        scale = sampler.guidance
        plan = replace(
            plan, steps=sampler.steps, guidance_scale=scale, audio_guidance_scale=scale, modality_scale=scale
        )
    truths = held_out_clips(pipe, plan)
    maker = ClipMaker(pipe, plan, folder / "clips")
    rows = []
    for task in TASKS:
        made = maker.make(task, truths)
        readings = [read(shown, truth) for shown, truth in zip(made, truths, strict=True)]
        seconds = statistics.mean(clip.seconds for clip in made)
        rows.append((own_row(task.name, readings, truths, seconds), second_reading(made, truths)))
    return rows


def second_reading(clips: Sequence[GeneratedClip], truths: Sequence[WorldClip]) -> SecondReading:
    """Of the truths only the scene and the rates are used."""
    pairs = [_changes(shown, truth) for shown, truth in zip(clips, truths, strict=True)]
    own = np.mean([_correlation(*pair) for pair in pairs], axis=0)
    others = [
        _correlation(pairs[i][0], pairs[j][1])
        for i, one in enumerate(truths)
        for j, other in enumerate(truths)
        if i != j and one.attributes["scene"] == other.attributes["scene"]
    ]
    best = int(own.argmax())
    return SecondReading(1000 * GRID * (best - LAGS), float(own[best]), float(np.mean(others, axis=0).max()))


def _changes(shown: GeneratedClip, truth: WorldClip) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How suddenly the picture changes, and how suddenly the sound does, on one grid of time without the clip's first 0.1 s."""
    grey, rate = shown.frames.astype(np.float64).mean(-1), float(truth.frame_rate)
    change = np.abs(np.diff(grey, axis=0)).mean((1, 2))
    sudden = np.maximum(0.0, np.diff(change, prepend=change[:1]))
    strength = onset_strength(shown.audio.astype(np.float64), truth.sampling_rate)
    grid = np.arange(0.1, len(grey) / rate, GRID)
    seen = np.interp(grid, (np.arange(len(sudden)) + 1) / rate, sudden)
    return seen, np.interp(grid, np.arange(len(strength)) * ONSET_HOP_SECONDS, strength)


def _correlation(seen: NDArray[np.float64], heard: NDArray[np.float64]) -> NDArray[np.float64]:
    """At lags of -LAGS to LAGS steps of the grid."""
    seen, heard = _normal(seen), _normal(heard)
    heard = np.pad(heard, LAGS)
    return np.array([seen @ heard[start : start + len(seen)] for start in range(2 * LAGS + 1)])


def _normal(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    curve = curve - curve.mean()
    size = float(np.linalg.norm(curve))
    return curve / size if size else curve


def line(sampler: Sampler, row: MeasureRow, second: SecondReading) -> str:
    sync, seen = row.overall.sync, row.overall.adherence
    shares = (sync.within, sync.misses, sync.extras, seen["scene"], seen["colour"], seen["pitch"], seen["vowel"])
    told = " | ".join(f"{100 * share:.0f}" for share in shares)
    lag = f"{second.lag_ms:+.0f} ms, {second.peak:.2f} ({second.shuffled:.2f})"
    return (
        f"| {sampler.name}, {row.name} | {sampler.forwards} | {sync.clips} | {sync.events} | {told} | {lag} | "
        f"{row.seconds_per_clip:.2f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_steps", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--only", nargs="+", default=[""], help="words; rows whose name has one of them")
    parser.add_argument("--lora", type=Path, help="the student; the shipped one by default")
    given = parser.parse_args(arguments)
    lora = given.lora or PACKAGED_WEIGHTS / STUDENT_FILE
    given.output.mkdir(parents=True, exist_ok=True)
    print(HEAD)
    print("|---" * (HEAD.count("|") - 1) + "|")
    for sampler in SAMPLERS:
        if not any(word in sampler.name for word in given.only):
            continue
        for row, second in measure(sampler, lora, given.clips, given.output):
            print(line(sampler, row, second), flush=True)
            with (given.output / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({**asdict(sampler), "row": asdict(row), "second": asdict(second)}) + "\n")


if __name__ == "__main__":
    main()
