"""A prompt rewritten by the operator's writing model, for a job or for somebody who writes. The key is in the environment."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from phonofilm.data.endpoint import EndpointError, Hopeless, UnansweredError
from phonofilm.errors import PhonofilmError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.report import OnProgress, StageStarted, emit
from phonofilm.writing.prompt_writer import PromptWriter
from phonofilm.writing.writing_endpoint import WritingEndpoint

logger = logging.getLogger(__name__)


class WritingError(PhonofilmError):
    """The writing model made no prompt. Names neither the prompt nor what the endpoint said."""


def written_prompt(writing: WritingEndpoint, idea: str, image: Path | None, seconds: float) -> str:
    """The prompt that the writing model makes of an idea for a clip of `seconds`.

    Raises WritingError when it made none, and InputError for an idea that is empty or too long. Neither the message nor the
    log holds the prompt or what the endpoint said.
    """
    try:
        return PromptWriter(writing.open()).write(idea, image, seconds)
    except (EndpointError, Hopeless) as error:
        logger.warning("the writing endpoint %s: %s; ask it by `phonofilm prompt`", writing.url, type(error).__name__)
        raise WritingError(f"the writing model gave no prompt: {_reason(error)}") from None


def with_enhanced_prompt(
    options: ClipOptions, writing: WritingEndpoint | None, seconds: float, held: OnProgress
) -> ClipOptions:
    """The options with the prompt that the writing model made of theirs.

    Raises PhonofilmError when it made none: the clip is not made from a prompt that the client did not ask for.
    """
    if writing is None:
        raise PhonofilmError("enhance_prompt: this worker was started without a writing endpoint")
    emit(held, StageStarted("writing the prompt"))
    prompt = written_prompt(writing, options.prompt or "", options.image, seconds)
    emit(held, StageStarted("prompt written"))
    return replace(options, prompt=prompt)


def _reason(error: EndpointError | Hopeless) -> str:
    """What was wrong and what can be done, without the endpoint's words."""
    way_on = "try again later, or make the clip without writing help"
    if isinstance(error, Hopeless):
        return f"its server refuses this address, key or model (status {error.status}); its operator has to mend that"
    if error.status is not None:
        return f"its server answered with status {error.status}; {way_on}"
    if isinstance(error, UnansweredError):
        return f"its server did not answer; {way_on}"
    return f"what it wrote cannot be used; {way_on}"
