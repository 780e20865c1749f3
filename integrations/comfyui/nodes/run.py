"""Making a clip inside ComfyUI: progress with a preview on the node, and an interrupt that is heard at every step."""

from __future__ import annotations

from typing import Any

import comfy.model_management as management
from comfy_api.latest import ComfyAPISync

from phonofilm import Clip
from phonofilm.generation.report import Event, StepDone

from .model import Model


def make(model: Model, prompt: str | None, seed: int, **words: Any) -> tuple[Clip, str]:
    """The clip, and its plan in one line. `words`: arguments of `Session.generate`; 0, "" and None leave it to the model.

    Raises PhonofilmError, which ComfyUI shows on the node, and its own exception when the user interrupts.
    """
    given = {name: value for name, value in words.items() if not _left_out(value)}
    plan = model.session.plan(prompt, seed=seed, loras=model.loras, **given)
    model.take_memory()
    return model.session.make(plan, Progress(sum(len(run.sampling.steps) for run in plan.runs))), str(plan)


class Progress:
    """Tells ComfyUI of every step of `total`."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._api = ComfyAPISync()

    def __call__(self, event: Event) -> None:
        management.throw_exception_if_processing_interrupted()
        if isinstance(event, StepDone):
            self._done += 1
            preview = None if event.preview is None else event.preview()
            self._api.execution.set_progress(value=self._done, max_value=self._total, preview_image=preview)


def _left_out(value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float) and value in ("", 0))
