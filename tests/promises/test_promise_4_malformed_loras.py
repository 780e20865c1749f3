"""LoRA files that are broken or made to harm: one line, at once, in little memory."""

from __future__ import annotations

import io
import json
import math
import pickle
import resource
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.integration.cli import CliRunner, app

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.reading import read_lora

SECONDS = 5.0
LAYER = "video_dit.blocks.0.self_attn.q"


def tensors(dtype: torch.dtype = torch.float32, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(shape, generator=generator).to(dtype) for shape in ((4, 16), (16, 4)))
    return {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up, **more}


def refused(path: Path, message: str) -> None:
    begun = time.process_time()
    with pytest.raises((CheckpointError, InputError), match=message) as caught:
        read_lora(path)
    assert time.process_time() - begun < SECONDS
    assert "\n" not in str(caught.value)


def test_a_deflated_archive_is_not_unpacked(tmp_path: Path) -> None:
    plain = io.BytesIO()
    torch.save(tensors(), plain)
    path = tmp_path / "lora_weights.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in source.infolist():
            if "/data/" not in entry.filename:
                bomb.writestr(entry.filename, source.read(entry))
                continue
            with bomb.open(entry.filename, "w", force_zip64=True) as stream:
                for _ in range(256):
                    stream.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "is compressed")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_tensor_larger_than_its_file(tmp_path: Path) -> None:
    wide = torch.zeros(1).expand(4, 10**9)
    torch.save(tensors() | {f"{LAYER}.lora_A.weight": wide}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "more than the file holds")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04.", pickle.dumps({"a": 1}), b"GIF89a" * 100, bytes(1000)])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    refused(tmp_path / "a.pt", "is refused")


def test_a_pickle_that_names_code(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("ran",)

    torch.save({"a": Runs()}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "could run code")


@pytest.mark.parametrize("keep", [10, 100, 500, -10, -100])
def test_a_file_cut_off(tmp_path: Path, keep: int) -> None:
    torch.save(tensors(), tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[:keep])
    refused(tmp_path / "a.pt", "is refused")


@pytest.mark.parametrize("content", [[1], {"a": 1}, {("a",): torch.zeros(1)}, {"lora_state_dict": 3}, torch.zeros(3)])
def test_a_pickle_of_another_shape(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "a.pt")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_lora_of_8_bit_floats_is_read_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = tensors(dtype)
    save_file(stored, tmp_path / "a.safetensors")
    adapter = read_lora(tmp_path / "a.safetensors").adapters["video_dit"]["blocks.0.self_attn.q"]
    assert torch.equal(adapter.down.float(), stored[f"{LAYER}.lora_A.weight"].float())
    done = CliRunner().invoke(app, ["lora", "inspect", str(tmp_path / "a.safetensors")])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_a_lora_of_no_floats_is_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({key: torch.ones(4, 4).to(dtype) for key in tensors()}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "expected floating-point numbers")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_an_alpha_that_is_no_number(tmp_path: Path, value: float) -> None:
    save_file(tensors(**{f"{LAYER}.alpha": torch.tensor(value)}), tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "NaN or infinity")


@pytest.mark.parametrize("key", ["rank", "alpha", "rank_exceptions", "alpha_exceptions"])
@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", "[]", '{"video_dit": "x"}', "1" * 5000, '{"video_dit": 1e999}'])
def test_a_header_of_no_use(tmp_path: Path, key: str, text: str) -> None:
    header = {
        "format": "phonofilm-lora",
        "format_version": "1",
        "rank": '{"video_dit": 4}',
        "alpha": '{"video_dit": 4}',
    }
    save_file(tensors(), tmp_path / "a.safetensors", {**header, key: text})
    if text == '{"video_dit": "x"}' and key.endswith("exceptions"):
        return  # says nothing about the layers that are there
    refused(tmp_path / "a.safetensors", "a.safetensors")


@pytest.mark.parametrize("text", ["[" * 100_000, "1", '{"transformer.lora_alpha": "x"}'])
def test_settings_in_the_header_of_no_use(tmp_path: Path, text: str) -> None:
    save_file(tensors(), tmp_path / "a.safetensors", {"lora_adapter_metadata": text})
    refused(tmp_path / "a.safetensors", "a.safetensors")


def test_peft_settings_beside_it_of_no_use(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "adapter_model.safetensors")
    for text in ("[" * 100_000, "[]", json.dumps({"lora_alpha": [1]})):
        (tmp_path / "adapter_config.json").write_text(text)
        refused(tmp_path / "adapter_model.safetensors", "adapter_")


@pytest.mark.parametrize("name", ["x" * 5000 + ".safetensors", "/dev/zero", "not there.pt"])
def test_a_name_that_leads_nowhere(name: str) -> None:
    refused(Path(name), "there is no LoRA at")


def test_a_file_of_another_kind_is_no_lora_that_can_be_used(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"no LoRA")
    done = CliRunner().invoke(app, ["models", "verify", str(clip)])
    assert (done.exit_code, "no LoRA file" in " ".join(done.stdout.split())) == (1, True), done.output
