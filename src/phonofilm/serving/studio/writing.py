"""The route that rewrites an idea into a prompt before a clip is asked for, so that one sees and edits what is made."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from phonofilm.geometry import parse_frame_rate
from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.errors import ApiError, ErrorBody, invalid
from phonofilm.serving.api.services import MayWrite, Services, ServicesOf
from phonofilm.serving.api.translate import check_enhancing, model_named
from phonofilm.serving.worker.enhancing import WritingError, written_prompt
from phonofilm.writing.prompt_writer import DEFAULT_SECONDS

router = APIRouter(tags=["studio"], responses=ERRORS)


class PromptFields(BaseModel):
    """An idea, and what is to be made of it: the model's own length where `seconds` is left out."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[str, Field(min_length=1)]
    model: Annotated[str | None, Field(max_length=200)] = None
    seconds: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None


class WrittenPrompt(BaseModel):
    """The prompt that the writing model made of the idea."""

    prompt: str


@router.post(
    "/v1/studio/prompt",
    operation_id="writePrompt",
    responses={502: {"model": ErrorBody, "description": "The writing model gave no prompt."}},
)
def write_prompt(fields: PromptFields, services: ServicesOf, access: MayWrite) -> WrittenPrompt:
    """Put an idea into full sentences, as `enhance_prompt` does when a clip is made."""
    model, worker = model_named(fields.model, services.worker.models), services.worker
    most = worker.limits.max_prompt_characters
    if len(fields.prompt) > most:
        raise invalid(f"the prompt has more than {most} characters", "prompt")
    check_enhancing(worker, fields.prompt)
    assert worker.writing is not None  # as that checked
    seconds = min(fields.seconds or _usual_seconds(services, model), worker.limits.max_seconds)
    if not services.writing.acquire(blocking=False):
        message = "the writing model is busy with other prompts; try again in a moment"
        raise ApiError(429, message, "writing_busy", headers={"Retry-After": "5"})
    try:
        return WrittenPrompt(prompt=written_prompt(worker.writing, fields.prompt, None, seconds))
    except WritingError as error:
        raise ApiError(502, str(error), "writing_failed") from None
    finally:
        services.writing.release()


def _usual_seconds(services: Services, model: str) -> float:
    """How long the model's clips are, once a worker has opened it."""
    facts = services.facts(model)
    return DEFAULT_SECONDS if facts is None else float(facts["num_frames"] / parse_frame_rate(str(facts["fps"])))
