"""A voice kept: does the embedded model go on in the voice of a sample where the prompt names none?

    python -m recipes.nano.measuring.voices -o DIR --clips 24

Prompts name neither a voice nor what a face with such a voice wears. Samples are the first second of held-out faces, low and
high voices in turn. Each clip is made with its sample and without it; the second row is what chance gives. A voice is a class
of fundamental frequency, which is a face's pitch class as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from phonofilm import Clip
from phonofilm.nano.world import HELD_OUT_SEED, WorldClip, make_clip
from phonofilm.nano.world.captions import PLACES
from phonofilm.nano.world.face import VOICES
from recipes.nano.measuring.audio_reader import read_voice_and_pitch
from recipes.nano.measuring.session_clips import Figures, Request, SessionClips, percent, run, sound

SECONDS = 1.0  # of the sample, and of the clip: half of what the model makes at once, each


def measure(clips: SessionClips, count: int) -> Figures:
    speakers = samples(count)
    asked = [replace(_without_voice(speaker, index), seconds=SECONDS) for index, speaker in enumerate(speakers)]
    led = [
        replace(request, voice=(spoken(speaker)[None], speaker.sampling_rate))
        for request, speaker in zip(asked, speakers, strict=True)
    ]
    return report(speakers, clips.make("with the sample", led), clips.make("without it", asked))


def samples(count: int) -> list[WorldClip]:
    """Held-out faces, the voices in turn, whose first second is heard to have the voice that it has."""
    found: list[WorldClip] = []
    seed = HELD_OUT_SEED
    while len(found) < count:
        face = make_clip(seed, scene="face")
        wanted = tuple(VOICES)[len(found) % len(VOICES)]
        if face.attributes["voice"] == wanted == read_voice_and_pitch(spoken(face), face.sampling_rate).voice:
            found.append(face)
        seed += 1
    return found


def spoken(face: WorldClip) -> np.ndarray:
    """The sample: float32 [samples]."""
    return face.audio[: round(SECONDS * face.sampling_rate)]


def report(speakers: Sequence[WorldClip], led: Sequence[Clip], without: Sequence[Clip]) -> Figures:
    """Per cent of clips whose voice is the sample's, and by the sample's voice."""
    return {"with the sample": _row(led, speakers), "without it": _row(without, speakers)}


def _row(clips: Sequence[Clip], speakers: Sequence[WorldClip]) -> Figures:
    heard = [read_voice_and_pitch(wave[0], rate).voice for wave, rate in map(sound, clips)]
    wanted = [speaker.attributes["voice"] for speaker in speakers]
    kept = np.array(heard) == np.array(wanted)
    return {
        "the sample's voice": percent(float(kept.mean())),
        "by voice": {voice: percent(float(kept[np.array(wanted) == voice].mean())) for voice in dict.fromkeys(wanted)},
        "heard": {voice: heard.count(voice) for voice in dict.fromkeys(sorted(heard))},
    }


def _without_voice(speaker: WorldClip, seed: int) -> Request:
    """A prompt for what the speaker looks like and says, without the voice."""
    about = speaker.attributes
    prompt = f'A {about["colour"]} cartoon face says "{about["vowel"]}", in front of {PLACES[about["background"]][0]}.'
    return Request(prompt, seed)


if __name__ == "__main__":
    run(__doc__, "voices", 24, measure)
