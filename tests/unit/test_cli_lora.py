"""`phonofilm lora`: what it shows and writes, on real files of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.checkpoints import GOLDEN
from tests.unit.lora_helpers import OTHERS, tiny_components, tiny_lora
from typer.testing import CliRunner

from phonofilm.cli.lora import app
from phonofilm.errors import CheckpointError, InputError
from phonofilm.files import file_hash
from phonofilm.lora.adapter import LoraFile
from phonofilm.lora.apply import MergedLoras, Use
from phonofilm.lora.exporting import EXPORTS, export_comfyui
from phonofilm.lora.inspection import report_on, suspected_swap
from phonofilm.lora.reading import read_lora
from phonofilm.lora.writing import save_lora
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_components


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def lora() -> LoraFile:
    return tiny_lora(tiny_components(), rank=4, alpha=2.0, trigger_word="zyx")


@pytest.fixture
def file(lora: LoraFile, tmp_path: Path) -> Path:
    return save_lora(lora, tmp_path / "x.safetensors")


def test_inspect_shows_layout_coverage_ranks_and_norms(file: Path, lora: LoraFile) -> None:
    shown = json.loads(run("inspect", file, "--model", GOLDEN, "--json"))
    assert (shown["layout"], shown["metadata"], shown["suspicions"]) == ("phonofilm", {"trigger_word": "zyx"}, [])
    audio = next(part for part in shown["components"] if part["component"] == "audio_dit")
    assert (audio["adapters"], audio["block_layers"], audio["ranks"], audio["alphas"]) == (30, 30, [4], [2.0])
    assert audio["targets"] == {"q": 6, "k": 6, "v": 6, "o": 6, "ffn.0": 3, "ffn.2": 3}
    norms = [float(adapter.delta().norm()) for adapter in lora.adapters["audio_dit"].values()]
    assert audio["norm_max"] == pytest.approx(max(norms), rel=1e-4)
    table = run("inspect", file, "--alpha", "64")
    assert "phonofilm layout" in table
    assert "trigger_word: zyx" in table
    assert "alpha / rank of audio_dit is 16" in table


def test_inspect_against_another_model_is_an_error(file: Path) -> None:
    variant = GOLDEN.parents[1] / "variant" / "checkpoint"
    with pytest.raises(CheckpointError):
        run("inspect", file, "--model", variant)


@pytest.mark.parametrize("to", EXPORTS)
def test_convert_writes_each_layout_and_back(file: Path, lora: LoraFile, tmp_path: Path, to: str) -> None:
    there = tmp_path / ("there.pt" if to == "low-resource" else "there")
    assert "from the phonofilm layout" in run("convert", file, "-o", there, "--to", to)
    layout = {"low-resource": "original low-resource", "diffusers": "peft"}.get(to, to)
    assert f"from the {layout} layout" in run("convert", there, "-o", file, "--overwrite", "--model", GOLDEN)
    assert read_lora(file).equals(lora)


def test_convert_takes_expert_and_alpha(lora: LoraFile, tmp_path: Path) -> None:
    source = tmp_path / "plain" / "high_noise.safetensors"
    folder = export_comfyui(LoraFile(lora.layout, {"video_dit": lora.adapters["video_dit"]}), tmp_path / "comfy")
    source.parent.mkdir()
    save_file(load_file(folder / "high_noise.safetensors"), source)
    run("convert", source, "-o", tmp_path / "low.safetensors", "--expert", "low", "--alpha", "7")
    read = read_lora(tmp_path / "low.safetensors")
    assert list(read.adapters) == ["video_dit_2"]
    assert {adapter.alpha for _, _, adapter in read.items()} == {7.0}
    assert "experts swapped?" in run("inspect", source, "--expert", "low")


def test_convert_refuses_what_it_does_not_write(file: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["--to", "webui"], "no layout that is written"),
        (["--to", "peft", "--overwrite"], "is never replaced"),
    ):
        with pytest.raises(InputError, match=message):
            run("convert", file, "-o", tmp_path / "there", *arguments)


@pytest.mark.parametrize(
    ("name", "components", "suspected"),
    [
        ("zoom_high_noise.safetensors", ("video_dit_2",), True),
        ("zoom-low.safetensors", ("video_dit",), True),
        ("zoom-low.safetensors", ("video_dit_2",), False),
        ("slow_zoom.safetensors", ("video_dit",), False),
        ("high_low.safetensors", ("video_dit",), False),
    ],
)
def test_a_name_that_speaks_of_the_other_expert_is_suspicious(
    name: str, components: tuple[str, ...], suspected: bool
) -> None:
    assert (suspected_swap(name, components) is not None) == suspected


def test_adapters_that_were_never_trained_are_counted(lora: LoraFile) -> None:
    layers = dict(lora.adapters["audio_dit"])
    first = next(iter(layers))
    layers[first] = type(layers[first])(layers[first].down, layers[first].up * 0, 2.0)
    report = report_on(LoraFile(lora.layout, {"audio_dit": layers}), Path("x.safetensors"))
    assert report.components[0].untrained == 1
    assert report.suspicions == ("1 of 30 adapters of audio_dit are zero: never trained",)


def test_merge_writes_a_checkpoint_that_does_what_the_lora_does(tmp_path: Path) -> None:
    model = tiny_components()
    lora = tiny_lora(model, rank=2, alpha=0.5, only=["video_dit_2", "audio_dit"])
    file = save_lora(lora, tmp_path / "x.safetensors")
    out = tmp_path / "merged"
    told = run("merge", f"{file}:video=0.5", "--model", GOLDEN, "-o", out)
    assert "merged into video_dit_2, audio_dit" in told
    merged = MergedLoras()
    merged.set(model, [Use(lora, {"video": 0.5})])
    written = load_components(read_layout(out, OTHERS), None, skip=OTHERS)
    for name, module in model.items():
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, written[name].state_dict()[key]), f"{name}.{key}"
    for copied in ("video_dit", "text_encoder"):
        for source in (GOLDEN / copied).iterdir():
            assert source.read_bytes() == (out / copied / source.name).read_bytes()
    account = json.loads((out / "merged_loras.json").read_text())
    assert account == [{"path": "x.safetensors", "sha256": file_hash(file), "strength": "video=0.5"}]
    for arguments, message in (
        ((file, "-o", out), "exists already"),
        ((f"{file}:0", "-o", tmp_path / "y"), "nothing to merge"),
    ):
        with pytest.raises(InputError, match=message):
            run("merge", "--model", GOLDEN, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged", "x.safetensors", "x.safetensors.sha256"]
