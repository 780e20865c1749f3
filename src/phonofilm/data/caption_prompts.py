"""What the captioner asks for, and how its answers become one caption. No network, no clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from phonofilm.data.yaml_files import read_yaml
from phonofilm.errors import InputError

NOTHING = "NONE"

VISUAL = """\
These are frames of one short video clip, in order, each with its time. Describe in one paragraph of plain prose what the
clip shows: who or what is there and how it looks, where it is, what happens from beginning to end, then the light, the
camera and its movement, and the style. Describe the clip, not the frames; leave out sounds, guesses and opinions."""

SPEECH = f"""\
Listen to this recording. Write down every word that is spoken or sung, in order and in its own language, each utterance in
double quotes after a few words about the voice, for example: a low, calm male voice says "Good evening." Write nothing
else. If there is no voice, answer {NOTHING}."""

SOUND = f"""\
Listen to this recording. Describe in one or two sentences every sound that is no speech: noises, ambience, music, in the
order in which they come, with their character and loudness. If there is nothing but speech or silence, answer
{NOTHING}."""

MERGE = """\
Three people have described one video clip. The first has only seen it, the others have only heard it.

Seen: {visual}
Spoken: {speech}
Other sounds: {sound}

Write one caption in exactly this form, on one line:
[VISUAL]: what is seen [SPEECH]: who says what, words in double quotes as given, each voice tied to the person seen who
speaks [SOUND]: the other sounds
Leave out the tag [SPEECH]: if nothing is spoken, and [SOUND]: if there are no other sounds. Change no quoted word, add
nothing that nobody described, use no other brackets, and answer with the caption alone."""


@dataclass(frozen=True)
class Prompts:
    """One text per pass. merge has the places {visual}, {speech} and {sound}."""

    visual: str = VISUAL
    speech: str = SPEECH
    sound: str = SOUND
    merge: str = MERGE

    def __post_init__(self) -> None:
        for place in ("{visual}", "{speech}", "{sound}"):
            if place not in self.merge:
                raise InputError(f"the prompt merge lacks {place}, where that description goes")


@dataclass(frozen=True)
class Described:
    """What each pass said; None where there is nothing to say."""

    visual: str
    speech: str | None = None
    sound: str | None = None

    def merge_prompt(self, prompts: Prompts) -> str:
        text = prompts.merge
        for name, said in asdict(self).items():
            text = text.replace("{" + name + "}", said or NOTHING)
        return text

    def joined(self) -> str:
        """The descriptions behind their tags as they are, on one line."""
        said = {"VISUAL": self.visual, "SPEECH": self.speech, "SOUND": self.sound}
        return one_line(" ".join(f"[{tag}]: {text}" for tag, text in said.items() if text))


def one_line(text: str) -> str:
    return " ".join(text.split())


def something(answer: str) -> str | None:
    """The answer, or None for NONE, however it was dressed."""
    return None if answer.strip(" .\"'*`\n").upper() == NOTHING else answer


def read_prompts(path: Path) -> Prompts:
    """Prompts from YAML with any of the keys visual, speech, sound, merge; the others keep their text.

    Raises InputError for a file that is none or has another key.
    """
    texts = read_yaml(path)
    known = [field.name for field in fields(Prompts)]
    if not isinstance(texts, Mapping) or not all(isinstance(text, str) and text.strip() for text in texts.values()):
        raise InputError(f"{path}: expected texts under some of {', '.join(known)}")
    unknown = [str(key) for key in texts if key not in known]
    if unknown:
        raise InputError(f"{path}: unknown prompt {unknown[0]!r}; known are {', '.join(known)}")
    return Prompts(**texts)


def as_yaml(texts: Mapping[str, str]) -> str:
    """Prompts as a file that `read_prompts` reads."""
    blocks = (f"{name}: |\n" + "".join(f"  {line}\n" for line in text.splitlines()) for name, text in texts.items())
    return "".join(blocks)
