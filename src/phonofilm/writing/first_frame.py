"""A first frame from text: by an OpenAI-compatible images endpoint, or by a text-to-image model of diffusers on this machine.

The endpoint has to send the picture itself; an address of one in its answer is never followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from phonofilm.errors import InputError, MediaError, causes_of
from phonofilm.files import replacing
from phonofilm.geometry import parse_frame_size
from phonofilm.media.images import load_image
from phonofilm.models.known import NAMED_SIZES
from phonofilm.writing.first_frame_options import FirstFrameOptions
from phonofilm.writing.writing_endpoint import writing_endpoint

if TYPE_CHECKING:
    from PIL import Image

    from phonofilm.data.endpoint import Endpoint

# What makes a picture of a prompt for a clip: the moment before anything moves.
FRAMING = "The first frame of a film clip, a still photograph without any text: "

# What requests, httpx and the hub's library raise where nobody answers.
NETWORK_FAULTS = frozenset(
    [
        "ConnectionError",
        "ConnectError",
        "ConnectTimeout",
        "MaxRetryError",
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
    ]
)


class FrameSource(Protocol):
    """Draws a picture from a prompt. `usual_size`: WxH where the user asks for none."""

    @property
    def usual_size(self) -> str: ...

    def get_ready(self) -> None:
        """Load what is needed on this machine. Raises InputError where it is not there; asks nobody who wants to be paid."""

    def draw(self, prompt: str, height: int, width: int, seed: int | None) -> Image.Image:
        """A picture of about this shape. Raises PhonofilmError when none is made."""


@dataclass(frozen=True)
class EndpointFrames:
    """Pictures from `POST images/generations`. The seed is not sent: the dialect has none."""

    endpoint: Endpoint
    usual_size: str = "1536x1024"  # OpenAI's widest; others take any

    def get_ready(self) -> None:
        """Nothing is loaded here."""

    def draw(self, prompt: str, height: int, width: int, seed: int | None) -> Image.Image:
        return _decoded(self.endpoint.image(FRAMING + prompt, f"{width}x{height}"))


@dataclass
class DiffusersFrames:
    """Pictures from a text-to-image checkpoint, a folder or a hub id, on `device` ("auto": CUDA where there is one)."""

    model: str
    device: str = "auto"
    usual_size: str = "1280x720"
    _pipeline: Any = field(default=None, init=False, repr=False)

    def get_ready(self) -> None:
        import torch
        from diffusers import AutoPipelineForText2Image

        if self._pipeline is not None:
            return
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        try:
            self._pipeline = AutoPipelineForText2Image.from_pretrained(self.model, torch_dtype=dtype).to(device)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0][:300]
            if not Path(self.model).exists() and _is_network_fault(error):
                raise InputError(
                    f"{self.model!r} is not on this machine, and the hub cannot be reached; give a folder, try again with "
                    "a network, or name an images endpoint"
                ) from error
            raise InputError(
                f"{self.model!r} is no text-to-image model of diffusers ({reason}); give a folder, a hub id, or the "
                "address of an images endpoint"
            ) from error
        self._pipeline.set_progress_bar_config(disable=True)

    def draw(self, prompt: str, height: int, width: int, seed: int | None) -> Image.Image:
        import torch

        self.get_ready()
        generator = None if seed is None else torch.Generator("cpu").manual_seed(seed)
        result: Any = self._pipeline(FRAMING + prompt, height=height, width=width, generator=generator)
        picture: Image.Image = load_image(result.images[0])
        return picture


def _is_network_fault(error: BaseException) -> bool:
    """Whether a connection is at the bottom of it; the libraries say first that a file is missing."""
    return any(type(cause).__name__ in NETWORK_FAULTS for cause in causes_of(error))


def frame_source(options: FirstFrameOptions, device: str = "auto") -> FrameSource:
    """What draws the pictures."""
    if options.is_endpoint:
        endpoint = writing_endpoint(options.source, options.model)
        assert endpoint is not None
        return EndpointFrames(endpoint.open())
    return DiffusersFrames(options.source, device)


def ready_frame_source(options: FirstFrameOptions, size: str | None, device: str = "auto") -> FrameSource:
    """What draws pictures of `size`, with everything loaded. Raises InputError where that can be known not to work."""
    source = frame_source(options, device)
    frame_shape(source, size)
    source.get_ready()
    return source


def frame_shape(source: FrameSource, size: str | None) -> tuple[int, int]:
    """Height and width of a picture in the shape of `size` (WxH, or a named one). Raises InputError for one that is not drawn."""
    height, width = NAMED_SIZES.get(size or "") or parse_frame_size(size or source.usual_size, ("1280x720",))
    if not (64 <= height <= 4096 and 64 <= width <= 4096):
        raise InputError(f"a first frame of {width}x{height} cannot be drawn; use sides of 64 to 4096 pixels")
    return height, width


def write_first_frame(
    source: FrameSource,
    prompt: str,
    target: Path,
    size: str | None,
    seed: int | None,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Draw a picture in the shape of `size` and write it whole.

    `notes` are kept in the file, if it is a PNG. Raises InputError and MediaError.
    """
    height, width = frame_shape(source, size)
    picture = source.draw(prompt, height, width, seed)
    with replacing(target, keep_suffix=True) as temporary:
        picture.save(temporary, **({} if notes is None else {"pnginfo": _notes(notes)}))
    return target


def _notes(notes: Mapping[str, str]) -> Any:
    from PIL.PngImagePlugin import PngInfo

    content = PngInfo()
    for name, text in notes.items():
        content.add_itxt(name, text)
    return content


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
