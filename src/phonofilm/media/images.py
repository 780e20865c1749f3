"""Still pictures: reading them in any mode or orientation, and fitting them to a size. Clips are read in read.py."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from phonofilm.errors import InputError, MediaError
from phonofilm.media.readable import IMAGE_FORMATS, MAX_IMAGE_PIXELS
from phonofilm.untrusted import require_file

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "letterbox"]

# What Pillow's decoders raise on damaged files, beside OSError; none of these classes is ours to narrow further.
_BROKEN_IMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(NotImplementedError, AssertionError, RuntimeError, MemoryError, struct.error, zlib.error),
)


def load_image(source: str | Path | Image.Image) -> Image.Image:
    """The picture as 8-bit RGB: turned upright by its EXIF tag, transparency flattened on white.

    Reads every mode but 32-bit float; 16-bit greys are scaled to 8 bit; of an animation, the first frame.
    Raises InputError for a missing file or one too large to be meant, MediaError for one that cannot be decoded.
    """
    from PIL import Image, ImageOps

    if isinstance(source, Image.Image):
        return _to_rgb(ImageOps.exif_transpose(source), "the given image")
    path = Path(source)
    with open_image(path) as image:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image), str(path))


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """A picture file of a kind in readable.py, opened and not yet decoded; what goes wrong in the block names the file.

    Raises InputError for what is no regular file or too large to be meant, MediaError for what cannot be decoded.
    """
    from PIL import Image

    require_file(path, "image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata; sizes are checked below
        try:
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                _check_pixels(path, image.width, image.height)
                yield image
        except Image.DecompressionBombError as error:
            raise InputError(f"{path} is too large to read safely ({error}); shrink it first") from error
        except (InputError, MediaError):
            raise
        except _BROKEN_IMAGE as error:
            reason = "it is empty" if path.stat().st_size == 0 else str(error) or type(error).__name__
            raise MediaError(
                f"{path} cannot be read as an image: {reason}; give a whole PNG, JPEG or WebP file"
            ) from error


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_IMAGE_PIXELS:
        raise InputError(
            f"{path} has {width * height / 1e6:.0f} megapixels ({width}x{height}); at most {MAX_IMAGE_PIXELS / 1e6:.0f} are "
            "read: shrink it first"
        )


def fit_image(image: Image.Image, height: int, width: int, mode: Fit = "crop") -> Image.Image:
    """The picture at exactly height x width, antialiased (bicubic).

    crop: keeps the middle part that has the wanted aspect. letterbox: keeps everything, black bars around it.
    """
    from PIL import Image

    if height <= 0 or width <= 0:
        raise InputError(f"cannot fit an image to {width}x{height} pixels; both sides must be positive")
    if mode == "letterbox":
        scale = min(width / image.width, height / image.height)
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        canvas = Image.new("RGB", (width, height))
        resized = image.resize(inner, Image.Resampling.BICUBIC)
        canvas.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return canvas
    if mode != "crop":
        raise InputError(f"unknown way to fit an image: {mode!r}; use 'crop' or 'letterbox'")
    return image.crop(_middle(image, height, width)).resize((width, height), Image.Resampling.BICUBIC)


def _middle(image: Image.Image, height: int, width: int) -> tuple[int, int, int, int]:
    """The centred box with aspect width/height, rounded down just as the reference implementation rounds it."""
    if image.height / image.width < height / width:
        kept = max(1, int(image.height / height * width))
        left = (image.width - kept) // 2
        return left, 0, left + kept, image.height
    kept = max(1, int(image.width / width * height))
    top = (image.height - kept) // 2
    return 0, top, image.width, top + kept


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    from PIL import Image

    if image.mode == "F":
        raise MediaError(f"{name} holds 32-bit floats, whose range is not known; save it with 8 or 16 bits per channel")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _grey_to_8_bit(image).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def _grey_to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit greys by dividing with 257 (65535 -> 255); an "I" image that stays within 0..255 is 8-bit already."""
    import numpy as np
    from PIL import Image

    grey = np.asarray(image)
    if image.mode == "I" and grey.max() <= 255:
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    # By table: a picture of many megapixels in 64-bit floats would take eight times its own size.
    table = np.rint(np.arange(2**16) / 257).astype(np.uint8)
    return Image.fromarray(table[np.clip(grey, 0, 2**16 - 1).astype(np.uint16)])
