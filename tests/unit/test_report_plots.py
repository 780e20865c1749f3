"""Tables, plots and learning curves of reports."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phonofilm.errors import InputError
from phonofilm.evaluation.plots import Bar, markdown_table, plot_bars, plot_boxes, plot_curves, read_curves


def write_csv(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def long_log(tmp_path: Path) -> Path:
    rows = [[step, step * 2.0, name, 1 / step] for step in range(1, 500) for name in ("loss/video", "norm")]
    return write_csv(tmp_path / "metrics.csv", [["step", "seconds", "name", "value"], *rows])


@pytest.fixture
def wide_log(tmp_path: Path) -> Path:
    rows = [[step, step * 2.0, 1 / step, "" if step < 3 else 20 + step] for step in range(1, 6)]
    return write_csv(tmp_path / "log.csv", [["step", "seconds", "loss", "psnr"], *rows])


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_table_lines_up_and_is_markdown() -> None:
    lines = markdown_table(["", "a"], [["first", "1"], ["x", "100"]]).splitlines()
    assert lines == ["|       |   a |", "| ----- | --: |", "| first |   1 |", "| x     | 100 |"]


def test_both_forms_of_log_are_read(long_log: Path, wide_log: Path) -> None:
    long, wide = read_curves(long_log), read_curves(wide_log, "seconds")
    assert set(long) == {"loss/video", "norm"}
    np.testing.assert_allclose(long["norm"][1][:2], [1.0, 0.5])
    assert set(wide) == {"loss", "psnr"}
    np.testing.assert_allclose(wide["psnr"][0], [6.0, 8.0, 10.0])


def test_curves_of_several_logs_in_one_picture(long_log: Path, wide_log: Path, tmp_path: Path) -> None:
    plot_curves({"long": long_log, "wide": wide_log}, tmp_path / "deep" / "curves.png", title="losses")
    everything = drawn(tmp_path / "deep" / "curves.png")
    plot_curves({"wide": wide_log}, tmp_path / "one.png", names=["psnr"])
    assert everything.shape[1] > drawn(tmp_path / "one.png").shape[1]


def test_unknown_curves_clocks_and_files_are_named(wide_log: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no curve is named 'gain'; the logs have loss, psnr"):
        plot_curves({"run": wide_log}, tmp_path / "x.png", names=["gain"])
    with pytest.raises(InputError, match="no column 'epoch'"):
        plot_curves({"run": wide_log}, tmp_path / "x.png", clock="epoch")
    with pytest.raises(InputError, match="not a file"):
        read_curves(tmp_path / "missing.csv")


def test_a_longer_bar_has_more_ink_and_a_missing_one_none(tmp_path: Path) -> None:
    def ink(value: float) -> int:
        plot_bars(tmp_path / "b.png", {"g": {"a": Bar(value), "b": Bar(0.5, 0.4, 0.6)}}, "t", {"g": 0.8})
        return int((np.abs(drawn(tmp_path / "b.png").astype(int) - [47, 111, 222]).sum(-1) < 12).sum())

    assert ink(0.9) > ink(0.2) > ink(float("nan")) > 0


def test_boxes_are_drawn(tmp_path: Path) -> None:
    plot_boxes(tmp_path / "x.png", {"a": [1.0, 2.0, 3.0], "b": [-50.0, 60.0]}, "lags", "ms", 42)
    assert drawn(tmp_path / "x.png").std() > 5
