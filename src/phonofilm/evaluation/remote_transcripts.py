"""Transcripts with speakers from an OpenAI-compatible server: what is sent, and what its answers mean. No errors counted."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.data.endpoint import Endpoint, EndpointError

SOUND_RATE = 16_000
LONGEST_SECONDS = 30  # that the original sends
PROMPT = "Transcribe. Mark every change of speaker with a tag: [S01], [S02], ..."
# What servers that know speakers call the form of answer; others take the first.
FORMS = {"gpt-4o-transcribe-diarize": "diarized_json"}
_MARKUP = re.compile(r"<[^>]+>")
_TAG = re.compile(r"\[[Ss]\d+\]")


def transcribe_speakers(endpoint: Endpoint, model: str, pcm: NDArray[np.int16]) -> str:
    """The words of [samples] at 16 kHz as "[S01] ... [S02] ...". Raises EndpointError for no answer."""
    sound = wav_bytes(pcm, SOUND_RATE)
    return tagged_text(endpoint.transcription(sound, model, form=FORMS.get(model, "json"), prompt=PROMPT))


def tagged_text(answer: Mapping[str, Any]) -> str:
    """From an answer's text with tags, or from segments that name a speaker. A text without either has no speakers.

    Raises EndpointError for an answer with neither text nor segments.
    """
    inner = answer.get("asr_transcription_result", answer)
    text = answer.get("text", inner.get("full_text") if isinstance(inner, Mapping) else None)
    if isinstance(text, str) and _TAG.search(text):
        return _plain(text)
    segments = inner.get("segments") if isinstance(inner, Mapping) else None
    if isinstance(segments, list) and any(isinstance(part, Mapping) and part.get("speaker") for part in segments):
        return _plain(_from_segments([part for part in segments if isinstance(part, Mapping)]))
    if not isinstance(text, str):
        raise EndpointError(f"the answer is no transcription; it has {', '.join(map(str, answer)) or 'nothing'}")
    return _plain(text)


def wav_bytes(pcm: NDArray[np.int16], rate: int) -> bytes:
    """A 16-bit mono file in memory."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.astype("<i2").tobytes())
    return buffer.getvalue()


def _from_segments(segments: list[Mapping[str, Any]]) -> str:
    """Speakers are numbered in the order in which they begin to speak."""
    numbers: dict[str, int] = {}
    parts = []
    for segment in segments:
        number = numbers.setdefault(str(segment.get("speaker", "")), len(numbers) + 1)
        parts.append(f"[S{number:02d}] {str(segment.get('text', '')).strip()}")
    return " ".join(parts)


def _plain(text: str) -> str:
    """Without markup such as <noise>, its tags in capitals."""
    return _TAG.sub(lambda tag: tag.group().upper(), _MARKUP.sub("", text)).strip()
