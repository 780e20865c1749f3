"""Networks without weights: built on the meta device from a config, and matched against the tensors of a checkpoint."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import UMT5Config, UMT5EncoderModel

from phonofilm.errors import CheckpointError
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.audio_vae import DAC, WEIGHT_NORM_SUFFIXES
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.checkpoint_files import listed
from phonofilm.models.config_check import MOST_LAYERS, check_bounds, check_depth, check_kinds, check_vae
from phonofilm.models.quantized import CONFIG_KEY, prepare_for
from phonofilm.models.shards import TensorEntry
from phonofilm.models.video import WanModel
from phonofilm.untrusted import shown

logger = logging.getLogger(__name__)

DIFFUSERS_CLASSES: dict[str, type[nn.Module]] = {
    cls.__name__: cls for cls in (WanModel, WanAudioModel, DualTowerConditionalBridge, DAC, AutoencoderKLWan)
}
# What of a text encoder's config.json counts; everything else, among it what names attention kernels, is passed over.
TEXT_ENCODER_KEYS = (
    *("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads", "feed_forward_proj"),
    *("relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_epsilon", "initializer_factor"),
    *("dropout_rate", "classifier_dropout", "dense_act_fn", "is_gated_act", "is_encoder_decoder", "use_cache", "dtype"),
    *("pad_token_id", "eos_token_id", "decoder_start_token_id", "tie_word_embeddings"),
)
TEXT_ENCODER_DTYPES = ("float32", "bfloat16", "float16")
# What constructors fill parameters with, in torch.nn.init and as methods of a tensor.
INITIALISERS = frozenset(
    f"{name}_"
    for name in (
        *("normal", "uniform", "trunc_normal", "constant", "ones", "zeros", "fill", "zero"),
        *("kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform"),
    )
)


@dataclass(frozen=True)
class Placement:
    """A tensor of a network and what it is read from.

    `names`: every place of the module that holds it (tied weights have several). `sources`: its entry in the checkpoint,
    or the magnitude and the direction of a weight-normalised one.
    """

    names: tuple[str, ...]
    sources: tuple[TensorEntry, ...]


class _WithoutInitialisation(TorchFunctionMode):
    """Passes over the initialisers of tensors on the meta device, which hold no values: they take half the time of building."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        filled = args[0] if args else named.get("tensor")  # torch.nn.init passes its arguments on by name
        if func.__name__ in INITIALISERS and isinstance(filled, Tensor) and filled.is_meta:
            return filled
        return func(*args, **named)


def empty_module(class_name: str, config: Mapping[str, Any], origin: str) -> nn.Module:
    """A network of the file format's `class_name` whose parameters take no memory; its buffers are real.

    Raises CheckpointError, naming the file `origin`, when the config describes no such network.
    """
    is_text_encoder = class_name == UMT5EncoderModel.__name__
    key, expected = ("model_type", "umt5") if is_text_encoder else ("_class_name", class_name)
    if config.get(key) != expected:
        raise CheckpointError(f"{origin} has {key} {config.get(key)!r:.80}; expected {expected!r}")
    try:
        with init_empty_weights(), _WithoutInitialisation():
            if is_text_encoder:
                module: nn.Module = UMT5EncoderModel(_text_encoder_config(config))
            else:
                cls = DIFFUSERS_CLASSES[class_name]
                arguments = _arguments(cls, config, origin)
                check_kinds(cls.__init__, arguments)
                check_vae(class_name, arguments)
                module = cls(**arguments)
        if class_name in DIFFUSERS_CLASSES and config.get(CONFIG_KEY) is not None:
            prepare_for(module, config, origin)
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        AssertionError,
        ArithmeticError,
        RuntimeError,
        MemoryError,
        StrictDataclassError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{origin} describes no {class_name} that can be built: {shown(reason)}") from error
    if isinstance(module, UMT5EncoderModel):
        module.tie_weights()  # building on meta takes tied parameters apart
        # transformers 5.0 and 5.1 leave it at that where tie_word_embeddings is false, as in the released text encoders,
        # which store one embedding nevertheless.
        module.encoder.embed_tokens.weight = module.shared.weight
    return module


def config_with_defaults(class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A network's config with its class's own defaults filled in, which older files leave out. Builds nothing."""
    parameters = inspect.signature(DIFFUSERS_CLASSES[class_name].__init__).parameters
    return {name: config.get(name, parameter.default) for name, parameter in parameters.items() if name != "self"}


def _text_encoder_config(config: Mapping[str, Any]) -> UMT5Config:
    """The sizes alone. No key of a checkpoint may choose an implementation, an attention backend or code to load."""
    sizes = {key: config[key] for key in TEXT_ENCODER_KEYS if key in config}
    for key, value in sizes.items():
        check_bounds(key, value)
        if isinstance(value, list | dict):
            raise ValueError(f"{key} is {value!r:.80}; expected a number, a switch or text")
    if sizes.get("dtype") not in (None, *TEXT_ENCODER_DTYPES):
        raise ValueError(f"dtype is {sizes['dtype']!r:.80}; expected one of {', '.join(TEXT_ENCODER_DTYPES)}")
    check_depth(sizes, MOST_LAYERS)
    return UMT5Config.from_dict(sizes)


def _arguments(cls: type[nn.Module], config: Mapping[str, Any], origin: str) -> dict[str, Any]:
    parameters = {k: p for k, p in inspect.signature(cls.__init__).parameters.items() if k != "self"}
    given = {key: value for key, value in config.items() if not key.startswith("_") and key != CONFIG_KEY}
    required = [key for key, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    if missing := [key for key in required if key not in given]:
        raise CheckpointError(f"{origin} lacks {listed(missing)}; a {cls.__name__} needs all of {', '.join(required)}")
    if unknown := [key for key in given if key not in parameters]:
        logger.warning(
            "%s has keys that a %s does not know and that change nothing: %s", origin, cls.__name__, listed(unknown)
        )
    return {key: value for key, value in given.items() if key in parameters}


def place_tensors(name: str, module: nn.Module, entries: Mapping[str, TensorEntry]) -> list[Placement]:
    """Which entry of the checkpoint goes where in the component `name`.

    Raises CheckpointError that lists the keys that are missing, unknown, or of another shape.
    """
    sources: dict[str, tuple[TensorEntry, ...]] = {key: (entry,) for key, entry in entries.items()}
    shapes = {key: entry.shape for key, entry in entries.items()}
    if isinstance(module, DAC):
        _pair_weight_norms(name, entries, sources, shapes)
    placements: list[Placement] = []
    missing: list[str] = []
    wrong: list[str] = []
    used: set[str] = set()
    for names, tensor in tensor_groups(module):
        present = [key for key in names if key in sources]
        used.update(present)
        if not present:
            missing.append(names[0])
            continue
        shape, source = shapes[present[0]], sources[present[0]]
        if shape != tuple(tensor.shape):
            wrong.append(f"{present[0]} is {list(shape)}, expected {list(tensor.shape)}")
        elif source[0].dtype.is_floating_point != tensor.is_floating_point():
            wrong.append(f"{present[0]} holds {source[0].dtype}, expected {tensor.dtype}")
        else:
            placements.append(Placement(names, source))
    unknown = [key for key in sources if key not in used]
    problems = [
        f"{len(keys)} {what}: {listed(keys)}"
        for keys, what in (
            (missing, "missing keys"),
            (unknown, "unknown keys"),
            (wrong, "tensors of the wrong shape or type"),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(f"the weights of {name} do not fit its config.json: {'; '.join(problems)}")
    return placements


def tensor_groups(module: nn.Module) -> list[tuple[tuple[str, ...], Tensor]]:
    """Every parameter and persistent buffer with its names; tied parameters come once, with all of theirs."""
    groups: dict[int, tuple[list[str], Tensor]] = {}
    for key, tensor in module.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), ([], tensor))[0].append(key)
    return [(tuple(names), tensor) for names, tensor in groups.values()]


def _pair_weight_norms(
    name: str,
    entries: Mapping[str, TensorEntry],
    sources: dict[str, tuple[TensorEntry, ...]],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Puts every weight-normalised pair under the name and the shape its fused weight will have."""
    for magnitude_suffix, direction_suffix in WEIGHT_NORM_SUFFIXES:
        for key, magnitude in entries.items():
            if not key.endswith(magnitude_suffix):
                continue
            stem = key.removesuffix(magnitude_suffix)
            direction = entries.get(stem + direction_suffix)
            if direction is None:
                raise CheckpointError(f"{name} has {key} but not {stem + direction_suffix}; weight norm needs both")
            del sources[key], sources[direction.key]
            sources[stem + ".weight"] = (magnitude, direction)
            shapes[stem + ".weight"] = direction.shape
