"""A picture that is given by its URL is fetched; what is no picture is said to be none."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests.unit.http_stub import StubHandler, listening

from phonofilm.errors import InputError
from phonofilm.pipeline.given_media import picture

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


class Pictures(StubHandler):
    def do_GET(self) -> None:
        answers = {"/a.png": (200, _png()), "/page": (200, b"<html>"), "/cut.png": (200, _png()[:45])}
        self.reply(*answers.get(self.path, (404, {"error": "gone"})))


def _png() -> bytes:
    file = BytesIO()
    Image.fromarray(PIXELS).save(file, format="png")
    return file.getvalue()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with listening(Pictures) as url:
        yield url


def test_a_picture_is_fetched(server: str) -> None:
    assert np.array_equal(np.asarray(picture(f"{server}/a.png")), PIXELS)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [("gone", "last_image: no picture at .*/gone: 404"), ("page", "is no picture"), ("cut.png", "is no picture")],
)
def test_what_is_no_picture_is_said_to_be_none(server: str, path: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        picture(f"{server}/{path}", "last_image")
