"""A job's prompt rewritten before its clip is made, where the client asked for that. The key is in the worker's environment."""

from __future__ import annotations

import logging
from dataclasses import replace

from phonofilm.data.endpoint import EndpointError, Hopeless
from phonofilm.errors import PhonofilmError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.report import OnProgress, StageStarted, emit
from phonofilm.writing.prompt_writer import PromptWriter
from phonofilm.writing.writing_endpoint import WritingEndpoint

logger = logging.getLogger(__name__)


def with_enhanced_prompt(
    options: ClipOptions, writing: WritingEndpoint | None, seconds: float, held: OnProgress
) -> ClipOptions:
    """The options with the prompt that the writing model made of theirs.

    Raises PhonofilmError when it made none: the clip is not made from a prompt that the client did not ask for. Neither the
    message nor the log holds the prompt or what the endpoint said.
    """
    if writing is None:
        raise PhonofilmError("enhance_prompt: this worker was started without a writing endpoint")
    emit(held, StageStarted("writing the prompt"))
    try:
        prompt = PromptWriter(writing.open()).write(options.prompt or "", options.image, seconds)
    except (EndpointError, Hopeless) as error:
        logger.warning("the writing endpoint %s: %s; ask it by `phonofilm prompt`", writing.url, type(error).__name__)
        raise PhonofilmError("enhance_prompt: the server's writing model gave no prompt that can be used") from None
    emit(held, StageStarted("prompt written"))
    return replace(options, prompt=prompt)
