"""Transcripts with speakers from an OpenAI-compatible server: what is sent, and what its answers mean. No errors counted."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.data.endpoint import Endpoint, EndpointError, Hopeless, UnansweredError
from phonofilm.errors import PhonofilmError

SOUND_RATE = 16_000
LONGEST_SECONDS = 30  # that the original sends
MOST_CHARACTERS = 20_000  # of an answer; in 30 s people say about 700
ANSWER_SECONDS = 120.0  # in which a clip's transcript is there, tries included
MOST_UNANSWERED = 3  # in a row
PROMPT = "Transcribe. Mark every change of speaker with a tag: [S01], [S02], ..."
# What servers that know speakers call the form of answer; others take the first.
FORMS = {"gpt-4o-transcribe-diarize": "diarized_json"}
_MARKUP = re.compile(r"<[^>]+>")
_TAG = re.compile(r"\[[Ss]\d+\]")


class GivenUp(PhonofilmError):
    """The server is not asked any more in this run, and why."""


class RemoteTranscriber:
    """A server that is asked clip by clip, until it is of no use: no clip waits for one that is not there."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._unanswered = 0
        self._given_up = ""

    def transcribe_speakers(self, pcm: NDArray[np.int16]) -> str:
        """The words of [samples] at 16 kHz as "[S01] ... [S02] ...".

        Raises EndpointError for no answer, GivenUp once no clip has a chance.
        """
        if self._given_up:
            raise GivenUp(self._given_up)
        model = self.endpoint.model
        sound, form = wav_bytes(pcm, SOUND_RATE), FORMS.get(model, "json")
        try:
            answer = self.endpoint.transcription(sound, model, form=form, prompt=PROMPT)
        except Hopeless as error:
            self._given_up = str(error)
            raise GivenUp(self._given_up) from error
        except UnansweredError as error:
            self._unanswered += 1
            if self._unanswered == MOST_UNANSWERED:
                self._given_up = (
                    f"{self.endpoint.base_url} gave no answer for {MOST_UNANSWERED} clips in a row and is not asked again in "
                    f"this run; the last time: {error}"
                )
            raise
        self._unanswered = 0
        return tagged_text(answer)


def tagged_text(answer: Mapping[str, Any]) -> str:
    """From an answer's text with tags, or from segments that name a speaker. A text without either has no speakers.

    Raises EndpointError for an answer with neither text nor segments.
    """
    inner = answer.get("asr_transcription_result", answer)
    text = answer.get("text", inner.get("full_text") if isinstance(inner, Mapping) else None)
    _refuse_long(text)
    if isinstance(text, str) and _TAG.search(text):
        return _plain(text)
    segments = inner.get("segments") if isinstance(inner, Mapping) else None
    if isinstance(segments, list) and any(isinstance(part, Mapping) and part.get("speaker") for part in segments):
        said = _from_segments(segments)
        _refuse_long(said)
        return _plain(said)
    if not isinstance(text, str):
        raise EndpointError(f"the answer is no transcription; it has {', '.join(map(str, answer)) or 'nothing'}")
    return _plain(text)


def _refuse_long(text: object) -> None:
    """Comparing takes time with a text's length; nobody says so much in half a minute."""
    if isinstance(text, str) and len(text) > MOST_CHARACTERS:
        raise EndpointError(
            f"the answer has {len(text):,} characters for at most {LONGEST_SECONDS} s of sound; {MOST_CHARACTERS:,} are read"
        )


def wav_bytes(pcm: NDArray[np.int16], rate: int) -> bytes:
    """A 16-bit mono file in memory."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.astype("<i2").tobytes())
    return buffer.getvalue()


def _from_segments(segments: list[Any]) -> str:
    """Speakers are numbered in the order in which they begin to speak. Raises EndpointError for what is no segment."""
    numbers: dict[str, int] = {}
    parts = []
    for segment in segments:
        speaker, text = (
            (segment.get(name) for name in ("speaker", "text")) if isinstance(segment, Mapping) else (None, None)
        )
        if not isinstance(speaker, str | int | None) or not isinstance(text, str):
            raise EndpointError("the answer is no transcription; each of its segments has to have a speaker and a text")
        number = numbers.setdefault(str("" if speaker is None else speaker), len(numbers) + 1)
        parts.append(f"[S{number:02d}] {text.strip()}")
    return " ".join(parts)


def _plain(text: str) -> str:
    """Without markup such as <noise>, its tags in capitals."""
    return _TAG.sub(lambda tag: tag.group().upper(), _MARKUP.sub("", text)).strip()
