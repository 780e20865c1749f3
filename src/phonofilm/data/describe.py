"""One clip through the captioner's passes: picture, speech and sound each on their own, then one caption of them."""

from __future__ import annotations

import base64
import io
import wave
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from phonofilm.data.caption_findings import TAG, broken_tags
from phonofilm.data.caption_prompts import Described, Prompts, one_line, something
from phonofilm.data.endpoint import Endpoint, EndpointError
from phonofilm.data.manifest import Item
from phonofilm.data.probe import Facts, probe
from phonofilm.data.window_reading import separate_sound
from phonofilm.data.windows import stretch
from phonofilm.errors import InputError
from phonofilm.media import read_clip
from phonofilm.media.waveform import resample

Hearing = Literal["input-audio", "transcript", "none"]
HEARINGS: tuple[Hearing, ...] = ("input-audio", "transcript", "none")
LONG_SIDE = 768  # pixels
SAMPLING_RATE = 16000
MERGE_TRIES = 3


@dataclass(frozen=True)
class Captioner:
    """How clips are described.

    frames: how many pictures of each clip are shown. hearing: "input-audio" gives the model the sound, "transcript" has a
    speech model write down the words (other sounds stay undescribed), "none" leaves the sound out. merge: whether the
    model writes one caption of all, or the answers are put behind their tags as they are.
    """

    endpoint: Endpoint
    prompts: Prompts = field(default_factory=Prompts)
    frames: int = 8
    hearing: Hearing = "input-audio"
    speech_model: str = "whisper-1"
    merge: bool = True

    def caption(self, item: Item) -> str:
        """One line, [VISUAL]: ... [SPEECH]: ... [SOUND]: ... Raises EndpointError, MediaError or InputError."""
        pictures, sound = seen_and_heard(item, self.frames, self.hearing != "none")
        visual = self.endpoint.chat([_text(self.prompts.visual), *pictures])
        described = Described(one_line(visual), *self._heard(sound))
        caption = (
            self._merged(described) if self.merge and (described.speech or described.sound) else described.joined()
        )
        problems = _problems(caption, described)
        if problems:
            raise EndpointError(f"the caption does not keep the convention ({problems[0]}): {caption[:120]}")
        return caption

    def _heard(self, sound: bytes | None) -> tuple[str | None, str | None]:
        """(speech, other sounds)"""
        if sound is None:
            return None, None
        if self.hearing == "transcript":
            words = one_line(self.endpoint.transcribe(sound, self.speech_model))
            return (f'"{words}"' if words else None), None
        data = base64.b64encode(sound).decode()
        heard = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
        try:
            speech, other = (
                self.endpoint.chat([_text(prompt), heard]) for prompt in (self.prompts.speech, self.prompts.sound)
            )
        except EndpointError as error:
            raise EndpointError(f"{error} (a model that takes no sound: use --sound transcript or none)") from error
        return something(one_line(speech)), something(one_line(other))

    def _merged(self, described: Described) -> str:
        """Asked again while the answer breaks the convention; the last answer counts."""
        caption = ""
        for _ in range(MERGE_TRIES):
            caption = one_line(self.endpoint.chat(described.merge_prompt(self.prompts)))
            if not _problems(caption, described):
                break
        return caption


def parse_hearing(text: str) -> Hearing:
    """The way of that name. Raises InputError for any other."""
    for hearing in HEARINGS:
        if hearing == text:
            return hearing
    raise InputError(f"sound {text!r} is unknown; use one of {', '.join(HEARINGS)}")


def seen_and_heard(item: Item, frames: int, with_sound: bool) -> tuple[list[dict[str, Any]], bytes | None]:
    """`frames` pictures of the item's stretch as parts of a message, each with its time; its sound as a wav, or None."""
    facts = probe(item.file)
    first, last = stretch(item, facts)
    if last <= first:
        raise InputError(f"{item.name}: there is no picture from {float(first):g} s on")
    rate = min(Fraction(240), max(Fraction(1), (frames + 1) / (last - first)))
    clip = read_clip(
        item.file,
        start=first,
        end=last,
        frame_rate=rate,
        sampling_rate=SAMPLING_RATE if facts.has_sound else None,
        mono=True,
        size=_reduced(facts),
    )
    chosen = np.unique(np.linspace(0, clip.num_frames - 1, frames).round().astype(int))
    parts = [part for i in chosen for part in (_text(f"{float(i / clip.frame_rate):.2f} s"), _image(clip.frames[i]))]
    sound = clip.audio
    if item.audio is not None and with_sound:
        other, given = separate_sound(item.audio, first, last - first)
        sound = resample(other, given, SAMPLING_RATE)
    return parts, None if sound is None or not with_sound else _wav(sound[0])


def _problems(caption: str, described: Described) -> list[str]:
    tags = [match[1] for match in TAG.finditer(caption)]
    if "VISUAL" not in tags:
        return ["no [VISUAL]:"]
    spoken = any(tag.endswith("SPEECH") for tag in tags)
    if spoken != bool(described.speech):
        return ["the speech is missing" if described.speech else "there is speech that nobody heard"]
    return broken_tags(caption)


def _reduced(facts: Facts) -> tuple[int, int]:
    scale = min(1.0, LONG_SIDE / max(facts.height, facts.width))
    return max(1, round(facts.height * scale)), max(1, round(facts.width * scale))


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(pixels: np.ndarray) -> dict[str, Any]:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    data = base64.b64encode(stream.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def _wav(samples: np.ndarray) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLING_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return stream.getvalue()
