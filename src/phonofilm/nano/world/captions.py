"""Sentences for the world's clips: what is seen and what is heard, in many words, and never when it happens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

PLACES = {
    "sky": ("a pale blue sky", "a light blue sky"),
    "sunset": ("a pink sunset", "a soft sunset sky"),
    "night": ("a dark night", "the night"),
    "cream": ("a cream wall", "a cream-coloured wall"),
    "grey": ("a grey wall", "a plain grey wall"),
    "mint": ("a mint green wall", "a pale mint wall"),
}
SIZE_WORDS = {"small": ("small", "little"), "medium": ("medium", "medium-sized"), "large": ("large", "big")}
PITCH_WORDS = {"low": ("low", "deep"), "mid": ("middle", "medium-pitched"), "high": ("high", "bright high")}
VOICE_WORDS = {"low": ("low", "deep"), "high": ("high", "light high")}
FLOOR_WORDS = {
    "wood": ("a wooden floor", "wooden boards"),
    "metal": ("a metal floor", "a steel plate"),
    "stone": ("a stone floor", "dark stone"),
}
HIT_WORDS = {"wood": ("knocks", "thuds"), "metal": ("rings", "clangs"), "stone": ("clicks", "taps")}
WEAR = {"low": "a black top hat", "high": "a pink bow"}

TEMPLATES = {
    "ball": (
        "A {size} {colour} ball bounces on {floor} in front of {place}. Each impact {hit} with a {pitch} note.",
        "{Place}. A {colour} ball, {size}, is bouncing on {floor}, making {pitch} {hit_noun}.",
        "A bouncing {colour} ball of {size} size hits {floor} with a {pitch} sound, before {place}.",
        "On {floor}, a {size} {colour} ball bounces and {hit} in a {pitch} tone; behind it {place}.",
    ),
    "face": (
        'A {colour} cartoon face with {wear} says "{vowel}" in a {voice} voice, in front of {place}.',
        'A {voice}-voiced {colour} face wearing {wear} speaks the vowel "{vowel}" before {place}.',
        '{Place}. A round {colour} face in {wear} opens its mouth and says "{vowel}" with a {voice} voice.',
        'The {colour} face with {wear} is talking: "{vowel}", a {voice} voice. Behind it {place}.',
    ),
    "lamp": (
        "A {size} {colour} lamp on a table blinks with {pitch} beeps, in front of {place}.",
        "{Place}. A {colour} light bulb, {size}, flashes and beeps with a {pitch} tone.",
        "A blinking {colour} lamp of {size} size; every flash comes with a {pitch} beep, before {place}.",
        "On the table stands a {size} lamp that lights up {colour} and beeps {pitch}; behind it {place}.",
    ),
    "xylophone": (
        "A mallet plays a tune on a {size} {colour} xylophone with {pitch} notes, in front of {place}.",
        "{Place}. A {size} xylophone with {colour} bars is played with a mallet; its notes are {pitch}.",
        "A {colour} xylophone, {size}, is struck by a mallet and sings {pitch} notes before {place}.",
        "Someone plays a {pitch} melody on the {colour} bars of a {size} xylophone; behind it {place}.",
    ),
    "owl": (
        "A {colour} owl on a table hoots, in front of {place}.",
        "{Place}. A {colour} owl sings a high and a low note.",
        "A {colour} owl that opens its wings and hoots, before {place}.",
        "On the table stands a {colour} owl that hoots two notes; behind it {place}.",
    ),
}
HIT_NOUNS = {"wood": "knocks", "metal": "clangs", "stone": "clicks"}


def describe(rng: np.random.Generator, attributes: Mapping[str, str]) -> str:
    """One sentence or two naming everything in `attributes` but the rhythm."""

    def word(options: Mapping[str, tuple[str, ...]], key: str) -> str:
        choices = options[attributes[key]]
        return choices[int(rng.integers(len(choices)))]

    templates = TEMPLATES[attributes["scene"]]
    template = templates[int(rng.integers(len(templates)))]
    place = word(PLACES, "background")
    words = {"colour": attributes["colour"], "place": place, "Place": place[0].upper() + place[1:]}
    if "size" in attributes:
        words |= {"size": word(SIZE_WORDS, "size"), "pitch": word(PITCH_WORDS, "pitch")}
    if "material" in attributes:
        material = attributes["material"]
        words |= {"floor": word(FLOOR_WORDS, "material"), "hit": word(HIT_WORDS, "material")}
        words["hit_noun"] = HIT_NOUNS[material]
    if "vowel" in attributes:
        words |= {"vowel": attributes["vowel"], "voice": word(VOICE_WORDS, "voice"), "wear": WEAR[attributes["voice"]]}
    return template.format(**words)
