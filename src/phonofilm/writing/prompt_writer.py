"""An idea rewritten into MOVA's kind of prompt by a language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonofilm.data.endpoint import Endpoint, EndpointError, UnansweredError
from phonofilm.errors import InputError
from phonofilm.media.images import load_image
from phonofilm.untrusted import CONTROLS

TRIES = 3
MAX_IDEA_CHARACTERS = 10_000
MAX_PROMPT_CHARACTERS = 4_000
LONG_SIDE = 768  # pixels of the picture that is shown
DEFAULT_SECONDS = 8.0
WORDS_PER_SECOND = 2.5

INSTRUCTIONS = """\
Write the prompt of a short film clip for a model that makes picture and sound together. The clip is {seconds:g} seconds long,
one shot without cuts. Here is the idea:

{idea}

{picture}Write one paragraph of plain sentences, 60 to 150 words, in this order: who or what is seen and how it looks; where, in
which light; what happens from beginning to end, and how the camera moves; then what is heard: who speaks in which voice, the
words in double quotes, the other sounds and their character, or music if the idea has it.
Keep every word that the idea puts in quotation marks exactly as it is, in its own language, and name its speaker by what is
seen of them. Where the idea lets somebody speak and gives no words, write some: at most {words} words in all. Let nobody speak
where the idea has no speech. Describe only what can be seen and heard, no thoughts, no camera brands, no titles or captions
in the picture. Answer with the paragraph alone."""
PICTURE = """\
The clip begins with exactly the picture that is shown here. Describe its people, things, place and light as they are, and let
everything begin from it; where picture and idea differ on what is there at the start, the picture counts.

"""
# Straight and typographic double quotes, each with its partner.
_QUOTED = re.compile('"([^"]+)"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»')
_FENCE = re.compile(r"```\w*\n?|```")
_LABEL = re.compile(r"^\s*(?:\*\*)?(?:prompt|caption)(?:\*\*)?\s*:(?:\*\*)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class PromptWriter:
    """Asks `endpoint` for prompts; where a picture is given, its model has to take pictures.

    names_endpoint: what is raised when it does not answer gives its address, for the one who chose it.
    """

    endpoint: Endpoint
    names_endpoint: bool = False

    def write(self, idea: str, image: Path | None = None, seconds: float = DEFAULT_SECONDS) -> str:
        """The prompt, one paragraph on one line; words in quotation marks are those of the idea.

        Asked again while the answer changes them. Raises InputError for an idea that is empty or too long and for a
        picture that cannot be read, EndpointError when no answer is of use, Hopeless when the endpoint never can.
        """
        if not idea.strip():
            raise InputError("the idea is empty; say in a few words what the clip is about")
        if len(idea) > MAX_IDEA_CHARACTERS:
            raise InputError(f"the idea has {len(idea):,} characters; at most {MAX_IDEA_CHARACTERS:,} are rewritten")
        text = INSTRUCTIONS.format(
            idea=idea.strip(),
            seconds=seconds,
            words=max(1, round(seconds * WORDS_PER_SECOND)),
            picture="" if image is None else PICTURE,
        )
        content = text if image is None else [{"type": "text", "text": text}, _picture(image)]
        fault = ""
        for _ in range(TRIES):
            prompt = _paragraph(self._answer(content))
            fault = _fault(prompt, idea)
            if not fault:
                return prompt
        raise EndpointError(f"{self.endpoint.model} wrote no prompt that can be used: {fault}")

    def _answer(self, content: str | list[dict[str, Any]]) -> str:
        try:
            return self.endpoint.chat(content)
        except UnansweredError as error:  # one that answers is there
            if not self.names_endpoint:
                raise
            raise UnansweredError(f"{self.endpoint.base_url}: {error}", error.status) from error


def _paragraph(answer: str) -> str:
    """The answer without what models put around it: a fence, a label, quotation marks around the whole."""
    text = " ".join(_LABEL.sub("", _FENCE.sub("", answer)).split())
    if len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2:
        return text[1:-1].strip()
    return text


def _fault(prompt: str, idea: str) -> str:
    """Why the prompt cannot be used, or ""."""
    if not prompt:
        return "it is empty"
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        return f"it has {len(prompt):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are taken"
    if CONTROLS.search(prompt):
        return "it holds control characters"
    for words in _quoted(idea):
        if words not in " ".join(prompt.split()):
            return f"it changes the words that the idea quotes ({words[:60]!r})"
    return ""


def _quoted(text: str) -> list[str]:
    """What stands in double quotation marks, without the full stop or comma that often moves in or out of them."""
    found = (next(part for part in match.groups() if part is not None) for match in _QUOTED.finditer(text))
    return [words for one in found if (words := " ".join(one.split()).rstrip(".,"))]


def _picture(image: Path) -> dict[str, Any]:
    picture = load_image(image)
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    data = base64.b64encode(stream.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
