"""Our optical flow against OpenCV's, bit for bit."""

import platform
from itertools import pairwise

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="needs the extra evaluate")
pytest.importorskip("numba", reason="needs the extra evaluate")

from phonofilm.evaluation import flow  # noqa: E402
from phonofilm.evaluation.farneback import fields  # noqa: E402

CONTRACTS = platform.machine() not in ("x86_64", "AMD64")  # OpenCV's compiler joins a product and a sum elsewhere


def texture(height, width, frames, *, step):
    """[f, h, w]: blurred noise that moves by `step` pixels a frame, with some grain of its own."""
    rng = np.random.default_rng(height * 1000 + width)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (height + 64, width + 64)), (0, 0), 2)
    wide = 127 + (wide - wide.mean()) * 60 / wide.std()
    shown = [
        wide[(k * step) % 64 :, (k * 2 * step) % 64 :][:height, :width] + rng.normal(0, 3, (height, width))
        for k in range(frames)
    ]
    return np.clip(np.stack(shown), 0, 255).astype(np.uint8)


def of_opencv(grey, levels, window):
    return np.stack(
        [cv2.calcOpticalFlowFarneback(a, b, None, 0.5, levels, window, 3, 5, 1.2, 0) for a, b in pairwise(grey)]
    )


def test_the_fields_are_opencvs_to_the_last_bit():
    # One test: the loops are compiled once for all of it. Sizes: four levels, odd ones, one, less than a window or a border.
    cases = [
        texture(h, w, 3, step=2)
        for h, w in ((352, 640), (131, 67), (64, 64), (40, 301), (31, 30), (9, 41), (4, 3), (1, 1))
    ]
    cases += [texture(96, 128, 3, step=25), np.full((3, 70, 70), 9, np.uint8)]  # out of the picture; nothing to be seen
    cases += [np.random.default_rng(1).integers(0, 256, (3, 80, 90), np.uint8)]  # flow of many pixels, to all sides
    for grey in cases:
        for levels, window in ((3, 15), (4, 11), (0, 5)):
            ours, theirs = np.stack(list(fields(grey, levels=levels, window=window))), of_opencv(grey, levels, window)
            where = f"{grey.shape}, levels {levels}, window {window}"
            if CONTRACTS:
                np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3, err_msg=where)
            else:
                np.testing.assert_array_equal(ours, theirs, err_msg=where)


def test_a_long_film_is_measured_by_the_faster_loops_with_the_same_result(monkeypatch):
    grey, used = texture(70, 90, 4, step=3), []
    plain = flow.mean_magnitudes(grey)
    monkeypatch.setattr(flow, "WORTH_COMPILING", grey.size)
    monkeypatch.setattr(flow, "_farneback", lambda *_args, **_kw: used.append(1) or ())
    assert len(plain) == 3
    if CONTRACTS:
        np.testing.assert_allclose(flow.mean_magnitudes(grey), plain, rtol=1e-4)
    else:
        np.testing.assert_array_equal(flow.mean_magnitudes(grey), plain)


def test_a_single_frame_has_no_flow():
    assert list(fields(np.zeros((1, 40, 40), np.uint8), levels=3, window=15)) == []
