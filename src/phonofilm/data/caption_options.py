"""How clips are to be captioned, as it was given to `phonofilm data caption`."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import InputError

if TYPE_CHECKING:
    from phonofilm.data.caption_prompts import Prompts
    from phonofilm.data.describe import Captioner
    from phonofilm.data.manifest import Item


@dataclass(frozen=True)
class CaptionOptions:
    """Options by their names on the command line.

    data: folder of clips, manifest, or YAML of several sets. key_from: the environment variable with the key. sound:
    input-audio, transcript or none. per_minute: most requests. timeout: seconds.
    """

    data: Path | None = None
    base_url: str | None = None
    model: str | None = None
    key_from: str = "OPENAI_API_KEY"
    frames: int = 8
    sound: str = "input-audio"
    speech_model: str = "whisper-1"
    merge: bool = True
    prompts: Path | None = None
    per_minute: float | None = None
    retries: int = 5
    timeout: float = 120.0

    def texts(self) -> Prompts:
        """What the models are asked."""
        from phonofilm.data.caption_prompts import Prompts, read_prompts

        return Prompts() if self.prompts is None else read_prompts(self.prompts)

    def texts_as_yaml(self) -> str:
        """The same as a file for `prompts`."""
        from phonofilm.data.caption_prompts import as_yaml

        return as_yaml(asdict(self.texts()))

    def work(self) -> tuple[tuple[Item, ...], Captioner]:
        """The clips, and what asks the endpoint about each. Raises InputError where one is not named or cannot be read."""
        from phonofilm.data.describe import Captioner, parse_hearing
        from phonofilm.data.endpoint import Endpoint
        from phonofilm.data.request_pace import RequestPace
        from phonofilm.data.sets import read_items

        texts, key = self.texts(), os.environ.get(self.key_from) or None
        if self.data is None or not self.base_url or not self.model:
            raise InputError("name the clips, the endpoint that is to see and hear them (--base-url) and its --model")
        pace = RequestPace(self.per_minute)
        endpoint = Endpoint(self.base_url, self.model, key, timeout=self.timeout, retries=self.retries, pace=pace)
        captioner = Captioner(endpoint, texts, self.frames, parse_hearing(self.sound), self.speech_model, self.merge)
        return read_items(self.data), captioner
