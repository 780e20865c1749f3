"""Checksums beside the LoRAs that we save, and what `models verify` makes of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.unit.lora_helpers import tiny_components, tiny_lora
from typer.testing import CliRunner, Result

from phonofilm.cli.main import app
from phonofilm.lora.adapter import LoraFile
from phonofilm.lora.exporting import EXPORTS
from phonofilm.lora.writing import save_lora


@pytest.fixture(scope="module")
def lora() -> LoraFile:
    return tiny_lora(tiny_components(), rank=2, alpha=0.5)


def verify(path: Path) -> Result:
    return CliRunner().invoke(app, ["models", "verify", str(path)], terminal_width=200, env={"COLUMNS": "200"})


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)


def test_one_flipped_bit_of_a_lora_is_found(lora: LoraFile, tmp_path: Path) -> None:
    file = save_lora(lora, tmp_path / "a.safetensors")
    fine = verify(file)
    assert (fine.exit_code, "1 of 1 files are as they were saved" in fine.stdout) == (0, True), fine.output
    flip_a_bit(file)
    broken = verify(file)
    assert (broken.exit_code, "is damaged" in broken.stdout) == (1, True), broken.output


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not here")
def test_the_sidecar_is_what_sha256sum_reads(lora: LoraFile, tmp_path: Path) -> None:
    save_lora(lora, tmp_path / "a.safetensors")
    subprocess.run(["sha256sum", "--check", "--strict", "a.safetensors.sha256"], cwd=tmp_path, check=True)


def test_a_lora_saved_over_another_has_its_own_digest(lora: LoraFile, tmp_path: Path) -> None:
    save_lora(lora, tmp_path / "a.safetensors")
    save_lora(lora.with_alpha(3.0), tmp_path / "a.safetensors", overwrite=True)
    assert verify(tmp_path / "a.safetensors").exit_code == 0


def test_a_lora_of_another_tool_has_no_digest_and_is_read(lora: LoraFile, tmp_path: Path) -> None:
    shutil.copy(save_lora(lora, tmp_path / "a.safetensors"), tmp_path / "b.safetensors")
    done = verify(tmp_path / "b.safetensors")
    assert (done.exit_code, "none known" in done.stdout) == (0, True), done.output


@pytest.mark.parametrize("layout", sorted(EXPORTS))
def test_every_layout_carries_checksums(lora: LoraFile, tmp_path: Path, layout: str) -> None:
    name = "a.pt" if layout == "low-resource" else "a"
    path = EXPORTS[layout](lora, tmp_path / name)
    assert verify(path).exit_code == 0, verify(path).output
    spoilt = path if path.is_file() else max(path.rglob("*.[ps]*t*"), key=lambda file: file.stat().st_size)
    flip_a_bit(spoilt)
    broken = verify(path)
    assert (broken.exit_code, "is damaged" in broken.stdout) == (1, True), broken.output


@pytest.mark.parametrize("text", ["", "x", "\0" * 100, "0" * 64 + "  other.safetensors\n", "f" * 5_000_000])
def test_a_sidecar_of_no_use_is_none(lora: LoraFile, tmp_path: Path, text: str) -> None:
    file = save_lora(lora, tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors.sha256").write_text(text)
    done = verify(file)
    assert (done.exit_code, "none known" in done.stdout) == (0, True), done.output
    assert "a.safetensors.sha256 has none of this file" in done.stdout
