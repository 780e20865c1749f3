"""An exported checkpoint against what SGLang's loader builds: names, shapes and config keys of sglang 0.5.23's MOVA classes.

SGLang cannot be installed here (CUDA), so its facts are listed: the modules of runtime/models/dits/mova_*.py,
bridges/mova_dual_tower.py and vaes/dac.py as names and shapes, and the renaming of configs/models/dits/mova_*.py. Its loader is
strict: a name too many or too few is an error.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from tests.conftest import GOLDENS

from phonofilm.models.exporting import export_for_tool
from phonofilm.models.layout import CheckpointLayout, read_layout

Shapes = dict[str, tuple[int, ...]]

# MOVAVideoArchConfig.param_names_mapping, which MOVAAudioArchConfig repeats.
RENAMED = (
    (r"^blocks\.(\d+)\.ffn\.0\.", r"blocks.\1.ffn.fc_in."),
    (r"^blocks\.(\d+)\.ffn\.2\.", r"blocks.\1.ffn.fc_out."),
    (r"^blocks\.(\d+)\.norm3\.", r"blocks.\1.self_attn_norm."),
    (r"^(text|time)_embedding\.0\.", r"\1_embedding.fc_in."),
    (r"^(text|time)_embedding\.2\.", r"\1_embedding.fc_out."),
)
# What the constructors read of config.json; a key that is missing has SGLang's default, which is that of the release.
TOWER_KEYS = {
    *("dim", "in_dim", "out_dim", "ffn_dim", "text_dim", "freq_dim", "eps", "patch_size", "num_heads", "num_layers"),
    *("has_ref_conv", "require_vae_embedding", "require_clip_embedding", "fuse_vae_embedding_in_latents"),
}
BRIDGE_KEYS = {
    *("visual_layers", "audio_layers", "visual_hidden_dim", "audio_hidden_dim", "audio_fps", "head_dim"),
    *("interaction_strategy", "apply_cross_rope", "apply_first_frame_bias_in_rope", "trainable_condition_scale"),
    "pooled_adaln",
}
DAC_KEYS = {
    *("continuous", "encoder_dim", "encoder_rates", "decoder_dim", "decoder_rates", "latent_dim", "sample_rate"),
    *("n_codebooks", "codebook_size", "codebook_dim", "quantizer_dropout"),
}
# FlowMatchScheduler.__init__; another key would be an error.
SCHEDULER_KEYS = {
    *("num_inference_steps", "num_train_timesteps", "shift", "sigma_max", "sigma_min", "inverse_timesteps"),
    *("extra_one_step", "reverse_sigmas", "exponential_shift", "exponential_shift_mu", "shift_terminal"),
}
# The class of each folder, as its registry finds it by the second name in model_index.json.
CLASSES = {
    "video_dit": "WanModel",
    "video_dit_2": "WanModel",
    "audio_dit": "WanAudioModel",
    "dual_tower_bridge": "DualTowerConditionalBridge",
    "audio_vae": "DAC",
    "scheduler": "FlowMatchPairScheduler",
}


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def attention(name: str, dim: int, inputs: int) -> Shapes:
    shapes = {f"{name}.norm_{part}.weight": (dim,) for part in "qk"}
    for part in "qkvo":
        shapes |= linear(f"{name}.{part}", dim, inputs if part in "kv" else dim)
    return shapes


def tower(config: dict[str, Any]) -> Shapes:
    dim, patch = config["dim"], tuple(config["patch_size"])
    shapes = {"patch_embedding.weight": (dim, config["in_dim"], *patch), "patch_embedding.bias": (dim,)}
    for name, inputs in (("text_embedding", config["text_dim"]), ("time_embedding", config["freq_dim"])):
        shapes |= linear(f"{name}.fc_in", dim, inputs) | linear(f"{name}.fc_out", dim, dim)
    shapes |= linear("time_projection.1", 6 * dim, dim)
    shapes |= linear("head.head", config["out_dim"] * math.prod(patch), dim) | {"head.modulation": (1, 2, dim)}
    for index in range(config["num_layers"]):
        block = f"blocks.{index}"
        shapes |= attention(f"{block}.self_attn", dim, dim) | attention(f"{block}.cross_attn", dim, dim)
        shapes |= {f"{block}.self_attn_norm.{part}": (dim,) for part in ("weight", "bias")}
        shapes |= linear(f"{block}.ffn.fc_in", config["ffn_dim"], dim)
        shapes |= linear(f"{block}.ffn.fc_out", dim, config["ffn_dim"])
        shapes |= {f"{block}.modulation": (1, 6, dim)}
    return shapes


def bridge(config: dict[str, Any]) -> Shapes:
    assert config["interaction_strategy"] == "full"
    assert not config["pooled_adaln"]
    assert not config["trainable_condition_scale"]
    shapes: Shapes = {}
    video, audio = config["visual_hidden_dim"], config["audio_hidden_dim"]
    for name, dim, other in (("audio_to_video", video, audio), ("video_to_audio", audio, video)):
        for layer in range(min(config["visual_layers"], config["audio_layers"])):
            block = f"{name}_conditioners.{layer}"
            shapes |= attention(f"{block}.inner", dim, other)
            shapes |= {f"{block}.y_norm.{part}": (other,) for part in ("weight", "bias")}
    return shapes


def conv(name: str, outputs: int, inputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, kernel), f"{name}.bias": (outputs,)}


def residual(name: str, dim: int) -> Shapes:
    alphas = {f"{name}.block.{index}.alpha": (1, dim, 1) for index in (0, 2)}
    return alphas | conv(f"{name}.block.1", dim, dim, 7) | conv(f"{name}.block.3", dim, dim, 1)


def audio_vae(config: dict[str, Any]) -> Shapes:
    assert config["continuous"]
    latent, dim = config["latent_dim"], config["encoder_dim"]
    shapes = conv("encoder.block.0", dim, 1, 7)
    for index, stride in enumerate(config["encoder_rates"], 1):
        block = f"encoder.block.{index}.block"
        for unit in range(3):
            shapes |= residual(f"{block}.{unit}", dim)
        shapes |= {f"{block}.3.alpha": (1, dim, 1)} | conv(f"{block}.4", 2 * dim, dim, 2 * stride)
        dim *= 2
    last = len(config["encoder_rates"]) + 1
    shapes |= {f"encoder.block.{last}.alpha": (1, dim, 1)} | conv(f"encoder.block.{last + 1}", latent, dim, 3)
    shapes |= conv("quant_conv", 2 * latent, latent, 1) | conv("post_quant_conv", latent, latent, 1)
    dim = config["decoder_dim"]
    shapes |= conv("decoder.model.0", dim, latent, 7)
    for index, stride in enumerate(config["decoder_rates"], 1):
        block = f"decoder.model.{index}.block"
        shapes |= {f"{block}.0.alpha": (1, dim, 1), f"{block}.1.weight": (dim, dim // 2, 2 * stride)}
        dim //= 2
        shapes |= {f"{block}.1.bias": (dim,)}
        for unit in (2, 3, 4):
            shapes |= residual(f"{block}.{unit}", dim)
    last = len(config["decoder_rates"]) + 1
    return shapes | {f"decoder.model.{last}.alpha": (1, dim, 1)} | conv(f"decoder.model.{last + 1}", 1, dim, 7)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> CheckpointLayout:
    folder = tmp_path_factory.mktemp("sglang") / "mova-360p"  # SGLang knows MOVA's sizes by such a name
    return read_layout(export_for_tool(read_layout(GOLDENS / "basic" / "checkpoint"), "sglang", folder))


def renamed(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parametrize("name", ["video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge", "audio_vae"])
def test_every_tensor_has_the_name_and_shape_that_sglang_builds(exported: CheckpointLayout, name: str) -> None:
    component = exported.components[name]
    build = {"dual_tower_bridge": bridge, "audio_vae": audio_vae}.get(name, tower)
    found = {renamed(key): tuple(entry.shape) for key, entry in component.entries.items()}
    assert found == build(dict(component.config))


def test_configs_have_the_keys_that_sglang_reads(exported: CheckpointLayout) -> None:
    for name, keys in (
        ("video_dit", TOWER_KEYS),
        ("audio_dit", TOWER_KEYS | {"vae_type"}),
        ("dual_tower_bridge", BRIDGE_KEYS),
        ("audio_vae", DAC_KEYS),
    ):
        config = exported.components[name].config
        assert keys <= set(config), name
        # Its DAC has plain convolutions, and its towers no CLIP: their constructors refuse or ignore anything else.
        assert not config.get("use_weight_norm")
        assert not config.get("has_image_input")


def test_classes_and_scheduler_are_those_that_sglang_registers(exported: CheckpointLayout) -> None:
    import json

    index = json.loads((exported.folder / "model_index.json").read_text(encoding="utf-8"))
    assert {name: index[name][1] for name in CLASSES} == CLASSES
    assert index["_class_name"] == "MOVA"
    scheduler = json.loads((exported.folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    assert {key for key in scheduler if not key.startswith("_")} <= SCHEDULER_KEYS
