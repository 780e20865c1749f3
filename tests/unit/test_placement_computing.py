"""--kernels, --quantize, --compile and --attn-backend auto: their words, what is refused, and what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from tests.conftest import Golden
from typer.testing import CliRunner

from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.placement.attention import fastest, measure, resolve_attention
from phonofilm.generation.placement.computing import Computing, StepTimes, check_computing
from phonofilm.generation.placement.devices import choose_placement
from phonofilm.models.compiling import require_compiler

CPU = torch.device("cpu")


def test_nothing_is_fused_quantised_or_compiled_on_a_cpu_unless_asked() -> None:
    assert choose_placement("cpu").computing == Computing("eager", None, False)
    assert Computing().summary == ""
    told = choose_placement("cpu", quantize="fp8", compiles=True).computing.summary
    assert told == "weights fp8 (lossy), compiled"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"kernels": "fast"}, "kernels 'fast' are unknown; use one of auto, eager, triton"),
        ({"quantize": "fp4"}, "quantisation 'fp4' is unknown; use one of fp8, int8, nf4"),
        ({"offload": "group", "quantize": "fp8"}, "use offload=layer"),
        ({"offload": "group", "compiles": True}, "use offload=layer"),
    ],
)
def test_words_that_cannot_be_followed_are_refused(words: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        choose_placement("cpu", **words)  # type: ignore[arg-type]


def test_streamed_layers_are_quantised_beforehand(basic: Golden) -> None:
    checkpoint = open_checkpoint(str(basic.checkpoint))
    check_computing(Computing(), "layer", checkpoint)
    check_computing(Computing(quantize="fp8"), "none", checkpoint)
    with pytest.raises(InputError, match=r"quantised beforehand: phonofilm quantize --model .* --to fp8"):
        check_computing(Computing(quantize="fp8"), "layer", checkpoint)


def test_compiling_without_a_compiler_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match=r"no g\+\+ or clang\+\+ or c\+\+ here; install g\+\+"):
        require_compiler(CPU)
    monkeypatch.setenv("CXX", "icpx")
    with pytest.raises(InputError, match="no icpx here"):
        require_compiler(CPU)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    require_compiler(CPU)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package triton"):
        require_compiler(torch.device("cuda", 0))


def test_the_first_step_is_told_from_the_others() -> None:
    times = StepTimes()
    times.seconds = [30.0, 2.0, 1.0, 1.5]
    assert times.summary == "compiled layers: first step 30 s, then 1.5 s a step"
    times.seconds = [30.0]
    assert times.summary == "compiled layers: first step 30 s"


def test_the_fastest_backend_that_runs_is_taken_and_the_native_one_when_it_is_as_fast() -> None:
    def run(name: str) -> float:
        if name == "broken":
            raise RuntimeError("no kernel for this width")
        return {"native": 1.01, "flash": 1.0, "cudnn": 0.5}[name]

    assert measure(["native", "broken", "flash"], run) == {"native": 1.01, "flash": 1.0}
    assert fastest({"native": 1.01, "flash": 1.0}) == "native"
    assert fastest({"native": 1.01, "cudnn": 0.5}) == "cudnn"
    assert fastest({"flash": 1.0}) == "flash"
    assert fastest({}) == "native"


def test_on_a_cpu_auto_attention_is_pytorchs_own(basic: Golden) -> None:
    placement = choose_placement("cpu", attention="auto")
    assert placement.attention == "auto"
    settled = resolve_attention(placement, open_checkpoint(str(basic.checkpoint)), [], Mock())
    assert settled == replace(placement, attention="native")


def test_a_checkpoint_is_quantised_and_opened_again(basic: Golden, tmp_path: Path) -> None:
    out = tmp_path / "fp8"
    result = CliRunner().invoke(app, ["quantize", "--model", str(basic.checkpoint), "-o", str(out), "--to", "fp8"])
    assert result.exit_code == 0, result.output
    assert "audio_dit" in result.output
    exact, quantized = open_checkpoint(str(basic.checkpoint)), open_checkpoint(str(out))
    assert quantized.weight_bytes(4) < exact.weight_bytes(4)
    with pytest.raises(InputError, match=r"is quantised already \(fp8\); leave out quantize="):
        check_computing(Computing(quantize="fp8"), "none", quantized)
    again = CliRunner().invoke(app, ["quantize", "--model", str(basic.checkpoint), "-o", str(out)])
    assert again.exit_code == 2
    assert "pass overwrite" in again.output
