"""Images come in as upright RGB whatever their mode, and are fitted as the reference fits them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phonofilm.errors import InputError, MediaError
from phonofilm.media import fit_image, load_image

RNG = np.random.default_rng(0)


def colours(height: int, width: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new("L", (4, 3), 255).convert("RGB").convert(mode) if mode not in ("I", "I;16") else None
    image = image or Image.fromarray(np.full((3, 4), 65535, np.uint16 if mode == "I;16" else np.int32))
    assert image.mode == mode
    loaded = load_image(image)
    assert (loaded.mode, loaded.size) == ("RGB", (4, 3))
    assert np.asarray(loaded).min() >= 254


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "grey.png")
    assert np.asarray(load_image(tmp_path / "grey.png"))[0, :, 0].tolist() == [0, 100, 255]


def test_transparency_is_flattened_on_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (2, 1), (255, 0, 0, 128))
    half.putpixel((1, 0), (0, 0, 0, 0))
    assert np.asarray(load_image(half))[0].tolist() == [[255, 127, 127], [255, 255, 255]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "hole.png", transparency=1)
    assert np.asarray(load_image(tmp_path / "hole.png"))[0].tolist() == [[0, 0, 255], [255, 255, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("RGB", (40, 24), "blue")
    upright.paste("red", (0, 0, 20, 12))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that stores the upright picture this way
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.asarray(load_image(tmp_path / "turned.png")), np.asarray(upright))


def test_floats_have_no_known_range() -> None:
    with pytest.raises(MediaError, match="32-bit floats"):
        load_image(Image.new("F", (2, 2)))


def png_claiming(width: int, height: int) -> bytes:
    """A small file that unpacks to width x height pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(99)))]
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "gif", "bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.98])
def test_truncated_images_name_the_file(tmp_path: Path, kind: str, kept: float) -> None:
    whole = tmp_path / f"whole.{kind}"
    colours(40, 50).save(whole)
    data = whole.read_bytes()
    broken = tmp_path / f"broken.{kind}"
    broken.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(MediaError, match=f"broken.{kind} cannot be read as an image"):
        load_image(broken)


def test_other_unreadable_images(tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("not an image")
    with pytest.raises(MediaError, match=r"note\.png cannot be read as an image"):
        load_image(tmp_path / "note.png")
    with pytest.raises(InputError, match=r"no image at .*gone\.png"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(InputError, match="that is a folder"):
        load_image(tmp_path)
    (tmp_path / "bomb.png").write_bytes(png_claiming(60000, 60000))
    with pytest.raises(InputError, match=r"bomb\.png is too large"):
        load_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("size", [(352, 640), (720, 1280), (97, 53), (16, 16), (30, 3)])
@pytest.mark.parametrize("source", [(90, 160), (333, 77), (64, 64), (161, 90)])
def test_crop_keeps_the_middle_as_the_reference_does(source: tuple[int, int], size: tuple[int, int]) -> None:
    image = colours(*source)
    (h, w), (height, width) = source, size
    pixels = np.asarray(image)
    if h / w < height / width:
        kept = int(h / height * width)
        pixels = pixels[:, (w - kept) // 2 : (w - kept) // 2 + kept]
    else:
        kept = int(w / width * height)
        pixels = pixels[(h - kept) // 2 : (h - kept) // 2 + kept]
    expected = np.asarray(Image.fromarray(pixels).resize((width, height)))
    assert np.array_equal(np.asarray(fit_image(image, height, width)), expected)


def test_letterbox_keeps_everything_between_black_bars() -> None:
    fitted = np.asarray(fit_image(Image.new("RGB", (40, 10), "white"), 32, 32, "letterbox"))
    assert fitted.shape == (32, 32, 3)
    assert (fitted[12:20] == 255).all()
    assert not fitted[:12].any()
    assert not fitted[20:].any()


def test_extreme_aspects_still_fit() -> None:
    assert fit_image(colours(1, 500), 500, 1).size == (1, 500)
    assert fit_image(colours(500, 1), 16, 16, "letterbox").size == (16, 16)


def test_impossible_fits_are_refused() -> None:
    with pytest.raises(InputError, match="0x16"):
        fit_image(colours(4, 4), 16, 0)
    with pytest.raises(InputError, match="stretch"):
        fit_image(colours(4, 4), 16, 16, "stretch")  # type: ignore[arg-type]
