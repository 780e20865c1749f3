"""A merged LoRA does what PEFT's own injected layers do: through one tower from our export, and through a whole clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.nano_fixture import tiny_nano_pipeline
from tests.unit.lora_helpers import tiny_components, tiny_lora

from phonofilm.lora.apply import MergedLoras, Use
from phonofilm.lora.components import LORA_COMPONENTS
from phonofilm.lora.exporting import export_peft, peft_config
from phonofilm.pipeline.mova import MovaPipeline


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
    merged = MergedLoras()
    merged.set(model, [Use(lora)])
    with torch.no_grad():
        ours = model["audio_dit"](*given)
    merged.set(model, [])
    theirs = peft.PeftModel.from_pretrained(model["audio_dit"], str(folder / "audio_dit"))
    with torch.no_grad():
        assert (theirs(*given) - ours).abs().max() < 1e-5


def test_two_loras_on_the_pipeline_give_the_clip_that_peft_gives() -> None:
    peft = pytest.importorskip("peft")
    pipe = tiny_nano_pipeline(size=32, num_frames=5)
    parts = {name: getattr(pipe, name) for name in LORA_COMPONENTS}
    loras = {"one": tiny_lora(parts, alpha=0.05, seed=1), "two": tiny_lora(parts, alpha=0.03, targets=("q",), seed=2)}
    plain = clip(pipe)
    for name, lora in loras.items():
        pipe.load_lora_weights(lora, name)
    pipe.set_adapters(list(loras), [1.0, 0.5])
    ours = clip(pipe)
    pipe.unload_lora_weights()
    for name, lora in loras.items():
        for component, adapters in lora.adapters.items():
            config = peft.LoraConfig(**peft_config(adapters))
            peft.inject_adapter_in_model(config, parts[component], name)
            tensors = {f"{path}.lora_A.weight": adapter.down for path, adapter in adapters.items()}
            tensors |= {f"{path}.lora_B.weight": adapter.up for path, adapter in adapters.items()}
            peft.set_peft_model_state_dict(parts[component], tensors, adapter_name=name)
    for component in parts.values():
        for module in component.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module.set_adapter(list(set(loras) & set(module.scaling)))
                if "two" in module.scaling:
                    module.scaling["two"] *= 0.5
    theirs = clip(pipe)
    for a, b, base in zip(ours, theirs, plain, strict=True):
        assert (a - b).abs().max() < 1e-5
        assert (a - base).abs().max() > 1e-3


def clip(pipe: MovaPipeline) -> list[torch.Tensor]:
    out = pipe("a ball", generator=torch.Generator().manual_seed(1), output_type="latent")
    return [out.frames, out.audio]
