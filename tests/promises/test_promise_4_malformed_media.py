"""Pictures, sounds and clips that are broken or made to harm: refused at once, in one line, by what is in them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.media_makers import flash_and_beep
from tests.promises import hostile_media as hostile

from phonofilm.errors import InputError, MediaError
from phonofilm.media import check_container, load_image, read_audio, read_clip, read_metadata, save_clip

SECONDS = 5.0


def refused(read: Callable[[Path], Any], path: Path, message: str) -> None:
    """Refused within seconds with a message that names the file and fits one line."""
    begun = time.process_time()
    with pytest.raises((InputError, MediaError), match=message) as caught:
        read(path)
    assert time.process_time() - begun < SECONDS
    assert "\n" not in str(caught.value)
    assert path.name[:50] in str(caught.value)


def test_importing_media_loads_neither_libav_nor_pillow() -> None:
    code = "import sys, phonofilm.media, phonofilm.media.write; print({'av', 'PIL', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_writing_what_is_no_container_loads_no_libav(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from phonofilm.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as part: part.write_text('x')\n"
        "print('av' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["list.mp4", "list.wav", "list.mkv", "list"])
@pytest.mark.parametrize("read", [read_clip, read_audio, check_container, read_metadata])
def test_a_playlist_reads_no_other_file(tmp_path: Path, name: str, read: Callable[[Path], Any]) -> None:
    save_clip(flash_and_beep(), tmp_path / "a.mp4")
    listed = tmp_path / name
    listed.write_text("ffconcat version 1.0\nfile a.mp4\n")
    refused(read, listed, "cannot be read")


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
)
def test_playlists_of_other_kinds_are_not_read_either(tmp_path: Path, text: str) -> None:
    listed = tmp_path / "a.mp4"
    listed.write_text(text)
    refused(read_clip, listed, "cannot be read")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.eps", "a"])
def test_postscript_is_not_run_whatever_its_name(tmp_path: Path, name: str) -> None:
    refused(load_image, hostile.eps(tmp_path / name, tmp_path / "trace"), "cannot be read as an image")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("kind", ["DDS", "PPM", "TGA", "PCX", "ICO", "SGI"])
def test_images_of_rare_kinds_are_not_read(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", format=kind)
    refused(load_image, tmp_path / "a.png", "cannot be read as an image")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_images_of_usual_kinds_are_read_whatever_their_name(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png", format=kind)
    assert load_image(tmp_path / "a.png").size == (8, 8)


def test_an_image_of_169_megapixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    refused(load_image, hostile.png_of_size(tmp_path / "a.png", 13_000, 13_000), "169 megapixels")
    refused(read_metadata, tmp_path / "a.png", "169 megapixels")


@pytest.mark.parametrize("seconds", [400, 12 * 3600, 300 * 86400])
@pytest.mark.parametrize("read", [read_audio, check_container])
def test_a_hole_in_the_sound_is_not_filled_without_bounds(
    tmp_path: Path, seconds: float, read: Callable[[Path], Any]
) -> None:
    refused(read, hostile.sound_with_hole(tmp_path / "a.mka", seconds), "hole of")


def test_a_small_hole_in_the_sound_is_silence(tmp_path: Path) -> None:
    wave, rate = read_audio(hostile.sound_with_hole(tmp_path / "a.mka", 2.5))
    assert wave.shape == (1, 3 * rate)
    assert not wave[:, rate // 2 + 100 : 2 * rate].any()


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_a_far_timestamp_asks_for_no_memory(tmp_path: Path, suffix: str) -> None:
    clip = hostile.picture_at(tmp_path / f"a{suffix}", [0, 0.04, 0.08, 20_000])
    refused(read_clip, clip, "stands still")


def test_a_clock_that_goes_far_back_is_damage(tmp_path: Path) -> None:
    """FLV's clock has 32 bits of milliseconds: half a day further, the next frame stood weeks before the last."""
    refused(read_clip, hostile.picture_at(tmp_path / "a.flv", [0, 1 / 24, 43_200], side=32), "clock goes back")


def test_a_claimed_duration_is_not_believed(tmp_path: Path) -> None:
    """A second of picture, and a sound packet far later: the container claims the longer of the two."""
    clip = hostile.picture_at(tmp_path / "a.mkv", [i / 24 for i in range(25)])
    size = clip.stat().st_size
    data = clip.read_bytes().replace(b"\x44\x89\x88", b"\x44\x89\x88", 1)
    place = data.index(b"\x44\x89\x88") + 3  # the segment's duration, a 64-bit float in milliseconds
    clip.write_bytes(data[:place] + np.array(1e12, ">f8").tobytes() + data[place + 8 :])
    assert clip.stat().st_size == size
    assert read_clip(clip).num_frames == 25


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_wav_with_numbers_that_are_none_is_refused(tmp_path: Path, value: float) -> None:
    wave = np.zeros((1, 4800), np.float32)
    wave[0, 2400] = value
    refused(read_audio, hostile.wav(tmp_path / "a.wav", wave), "not numbers")


@pytest.mark.parametrize("rate", [0, 1, 999, 2_000_000_000, 4_000_000_000])
def test_a_wav_of_an_absurd_rate_is_refused(tmp_path: Path, rate: int) -> None:
    refused(read_audio, hostile.wav(tmp_path / "a.wav", np.zeros((1, 4800), np.float32), rate), "a.wav")


@pytest.mark.parametrize("channels", [9, 16, 32])
def test_more_channels_than_can_be_written_are_refused(tmp_path: Path, channels: int) -> None:
    wave = np.zeros((channels, 4800), np.float32)
    refused(read_audio, hostile.wav(tmp_path / "a.wav", wave), f"{channels} channels")


READERS = [load_image, read_clip, read_audio, read_metadata, check_container]


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    for path in (hostile.fifo(tmp_path / "a.png"), Path("/dev/zero"), tmp_path / "not there"):
        refused(read, path, "no (file|image) at")
    refused(read, Path("x" * 5000 + ".png"), "no (file|image) at .*5,004 characters")
    with pytest.raises((InputError, MediaError)):
        read(tmp_path)


def test_names_that_are_no_utf8_are_read_and_written(tmp_path: Path) -> None:
    name = tmp_path / "a\udcff.mp4"
    save_clip(flash_and_beep(), name)
    assert read_clip(name).num_frames == 25


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 1000, '{"seed": ' + "1" * 5000 + "}", "NaN", '{"a": 1e999}'])
def test_settings_that_are_no_sane_json_count_as_none(tmp_path: Path, text: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_itxt("Comment", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=about)
    refused(read_metadata, tmp_path / "a.png", "carries no settings")
    folder = tmp_path / "frames"
    folder.mkdir()
    shutil.copy(tmp_path / "a.png", folder / "00000.png")
    (folder / "metadata.json").write_text(text)
    refused(read_clip, folder, "is damaged")


@pytest.mark.parametrize(
    "settings", [[], "x", 1, {"frame_rate": [1]}, {"frame_rate": "1e999999999"}, {"frame_rate": {}}]
)
def test_a_frame_folder_of_strange_settings_is_refused(tmp_path: Path, settings: Any) -> None:
    import json

    Image.new("RGB", (8, 8)).save(tmp_path / "00000.png")
    (tmp_path / "metadata.json").write_text(json.dumps(settings))
    with pytest.raises((InputError, MediaError)):
        read_clip(tmp_path)
