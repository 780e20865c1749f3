"""A first frame from text: by an OpenAI-compatible images endpoint, or by a text-to-image model of diffusers on this machine.

The endpoint has to send the picture itself; an address of one in its answer is never followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from phonofilm.errors import InputError, MediaError
from phonofilm.files import replacing
from phonofilm.geometry import parse_frame_size
from phonofilm.media.images import load_image
from phonofilm.writing.writing_endpoint import writing_endpoint

if TYPE_CHECKING:
    from PIL import Image

    from phonofilm.data.endpoint import Endpoint

# What makes a picture of a prompt for a clip: the moment before anything moves.
FRAMING = "The first frame of a film clip, a still photograph without any text: "


class FrameSource(Protocol):
    """Draws a picture from a prompt. `usual_size`: WxH where the user asks for none."""

    @property
    def usual_size(self) -> str: ...

    def draw(self, prompt: str, height: int, width: int, seed: int | None) -> Image.Image:
        """A picture of about this shape. Raises PhonofilmError when none is made."""


@dataclass(frozen=True)
class EndpointFrames:
    """Pictures from `POST images/generations`. The seed is not sent: the dialect has none."""

    endpoint: Endpoint
    usual_size: str = "1536x1024"  # OpenAI's widest; others take any

    def draw(self, prompt: str, height: int, width: int, seed: int | None) -> Image.Image:
        return _decoded(self.endpoint.image(FRAMING + prompt, f"{width}x{height}"))


@dataclass(frozen=True)
class DiffusersFrames:
    """Pictures from a text-to-image checkpoint, a folder or a hub id, on `device` ("auto": CUDA where there is one)."""

    model: str
    device: str = "auto"
    usual_size: str = "1280x720"

    def draw(self, prompt: str, height: int, width: int, seed: int | None) -> Image.Image:
        import torch
        from diffusers import AutoPipelineForText2Image

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(self.model, torch_dtype=dtype).to(device)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:300]
            raise InputError(
                f"{self.model!r} is no text-to-image model of diffusers ({reason}); give a folder, a hub id, or the "
                "address of an images endpoint"
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        generator = None if seed is None else torch.Generator("cpu").manual_seed(seed)
        result: Any = pipeline(FRAMING + prompt, height=height, width=width, generator=generator)
        picture: Image.Image = load_image(result.images[0])
        return picture


def frame_source(given: str, model: str | None, device: str = "auto") -> FrameSource:
    """The source that a user named: an http(s) address, with the model that it should use, or a model of diffusers.

    Raises InputError when something is missing.
    """
    if given.startswith(("http://", "https://")):
        if model is None:
            raise InputError("an images endpoint needs a model; add for example --first-frame-model gpt-image-1")
        endpoint = writing_endpoint(given, model)
        assert endpoint is not None
        return EndpointFrames(endpoint.open())
    if model is not None:
        raise InputError(f"--first-frame-model is for endpoints; {given!r} is a model already")
    return DiffusersFrames(given, device)


def write_first_frame(source: FrameSource, prompt: str, target: Path, size: str | None, seed: int | None) -> Path:
    """Draw a picture in the shape of `size` (WxH) and write it whole. Raises InputError and MediaError."""
    height, width = parse_frame_size(size or source.usual_size, ("1280x720",))
    if not (64 <= height <= 4096 and 64 <= width <= 4096):
        raise InputError(f"a first frame of {width}x{height} cannot be drawn; use sides of 64 to 4096 pixels")
    picture = source.draw(prompt, height, width, seed)
    with replacing(target, keep_suffix=True) as temporary:
        picture.save(temporary)
    return target


def _decoded(content: bytes) -> Image.Image:
    """The picture in bytes that an endpoint sent, with the bounds that files have."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="phonofilm-") as folder:
        file = Path(folder) / "frame"
        file.write_bytes(content)
        try:
            return load_image(file)
        except InputError as error:
            raise MediaError("the images endpoint sent a picture too large to be meant") from error
