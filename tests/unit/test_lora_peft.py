"""What we export for PEFT loads in PEFT alone and does there what it does here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.unit.lora_helpers import tiny_components, tiny_lora

from phonofilm.lora.apply import apply_lora
from phonofilm.lora.writing import export_peft


@pytest.mark.slow
def test_peft_alone_gives_the_same_output(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = tiny_components()
    lora = tiny_lora(model, rank=4, alpha=0.02, only=["audio_dit"])
    layers = dict(lora.adapters["audio_dit"])
    first = next(iter(layers))
    layers[first] = replace(layers[first], down=layers[first].down[:3], up=layers[first].up[:, :3], alpha=0.05)
    lora = replace(lora, adapters={"audio_dit": layers})
    folder = export_peft(lora, tmp_path / "peft")

    given = (torch.randn(1, 16, 7), torch.tensor([500.0]), torch.randn(1, 5, 32))
    applied = apply_lora(model, lora)
    with torch.no_grad():
        ours = model["audio_dit"](*given)
    applied.remove()
    theirs = peft.PeftModel.from_pretrained(model["audio_dit"], str(folder / "audio_dit"))
    with torch.no_grad():
        assert (theirs(*given) - ours).abs().max() < 1e-5
