"""Values in a checkpoint's JSON files: of the right kind, in range, and describing no more network than its files can hold.

Everything here raises ValueError; the callers add which file it is.
"""

from __future__ import annotations

import base64
import collections.abc
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LARGEST = 2**24
LONGEST_LIST, LONGEST_TEXT = 1024, 10_000
# The released models have 30 and 40.
MOST_LAYERS = 512
_FACTORS = ("scale_factor_spatial", "scale_factor_temporal")
# Where the settings of a distilled model stand in metadata and in model_index.json.
FEW_STEPS_KEY = "few_steps"
# The fields of pipeline.few_steps.FewSteps, and those that have no default.
FEW_STEPS_RANGES: dict[str, tuple[float, float] | type] = {
    "steps": (1, 1000),
    **dict.fromkeys(("video_shift", "audio_shift"), (1e-3, 1e3)),
    "boundary_ratio": (0.0, 1.0),
    **dict.fromkeys(("guidance_scale", "audio_guidance_scale", "modality_scale"), (-1e3, 1e3)),
}
FEW_STEPS_NEEDED = frozenset(("steps", "video_shift", "audio_shift", "boundary_ratio"))


def check_kinds(init: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Every value is of the type that the parameter of its name is annotated with, and in bounds."""
    hints = typing.get_type_hints(init)
    for key, value in values.items():
        if not _is_a(value, hints.get(key, Any)):
            wanted = getattr(hints[key], "__name__", str(hints[key])).removeprefix("typing.")
            raise ValueError(f"{key} is {value!r:.80}; expected {wanted}")
        check_bounds(key, value)


def check_bounds(key: str, value: Any) -> None:
    """No number, list or text in `value` is larger than any network needs."""
    for part in _parts(value):
        if isinstance(part, int | float) and not abs(part) <= LARGEST:
            raise ValueError(f"{key} is {part!r:.80}, which is larger than any network needs ({LARGEST:,})")
        if isinstance(part, str | list | dict) and len(part) > (
            LONGEST_TEXT if isinstance(part, str) else LONGEST_LIST
        ):
            raise ValueError(f"{key} has {len(part):,} entries, more than any network needs")


def check_depth(config: Mapping[str, Any], tensors: int) -> None:
    """A network has no more layers than its files have tensors: building them would take for ever to find that out."""
    for key, value in config.items():
        counts = "layers" in key or key in ("num_res_blocks", "n_codebooks")
        if counts and isinstance(value, int | float) and value > min(MOST_LAYERS, max(tensors, 1)):
            raise ValueError(f"{key} is {value}, and its files hold {tensors} tensors (at most {MOST_LAYERS} layers)")


def check_vae(class_name: str, config: Mapping[str, Any]) -> None:
    """What the sizes of clips are computed from: the factors of a VAE and the statistics of its latents."""
    if class_name == "AutoencoderKLWan":
        for key in _FACTORS:
            if key in config and not (_is_a(config[key], int) and 1 <= config[key] <= 64):
                raise ValueError(f"{key} is {config[key]!r:.80}; expected a whole number from 1 to 64")
        for key in ("latents_mean", "latents_std"):
            if len(config.get(key, ())) not in (0, config.get("z_dim", 16)):
                raise ValueError(f"{key} has {len(config[key])} values for z_dim {config.get('z_dim', 16)}")
        if not all(config.get("latents_std", ())):
            raise ValueError("latents_std holds a zero, which latents cannot be divided by")
    if class_name == "DAC":
        rates = config.get("encoder_rates", [1])
        if not all(1 <= rate <= 64 for rate in rates) or not 1 <= math.prod(rates) <= LARGEST:
            raise ValueError(f"encoder_rates is {rates!r:.80}; expected whole numbers from 1 to 64")
        if not 1_000 <= config.get("sample_rate", 44100) <= 768_000:
            raise ValueError(f"sample_rate is {config['sample_rate']}; expected 1,000 to 768,000")


def check_ranges(values: Mapping[str, Any], known: Mapping[str, tuple[float, float] | type]) -> None:
    """Every key is known, and every value a number in its range, or of its type. None is allowed: it says nothing."""
    if unknown := [str(key) for key in values if key not in known]:
        raise ValueError(f"has the unknown key {unknown[0]!r:.80}; known are {', '.join(known)}")
    for key, value in values.items():
        kind = known[key]
        if value is None:
            continue
        if isinstance(kind, type):
            if not isinstance(value, kind) or (isinstance(value, str) and len(value) > LONGEST_TEXT):
                raise ValueError(f"has {key} {value!r:.80}; expected {'text' if kind is str else kind.__name__}")
            continue
        whole = all(isinstance(end, int) for end in kind)
        if not _is_a(value, int if whole else float) or not kind[0] <= value <= kind[1]:
            number = "whole number" if whole else "number"
            raise ValueError(f"has {key} {value!r:.80}; expected a {number} from {kind[0]:g} to {kind[1]:g}")


def check_few_steps(value: Any) -> None:
    """The settings of a distilled model."""
    if not isinstance(value, dict) or not FEW_STEPS_NEEDED <= set(value) <= set(FEW_STEPS_RANGES):
        raise ValueError(f"has few_steps {value!r:.80}; expected an object with {', '.join(FEW_STEPS_RANGES)}")
    if empty := [name for name, number in value.items() if number is None]:
        raise ValueError(f"(few_steps) has {empty[0]} null; give it a number")
    try:
        check_ranges(value, FEW_STEPS_RANGES)
    except ValueError as error:
        raise ValueError(f"(few_steps) {error}") from error


def check_normalizer(normalizer: Any) -> None:
    """A tokenizer's tables of characters are whole; the reader, written in Rust, would abort over one that is not."""
    if not isinstance(normalizer, dict):
        return
    for inner in normalizer.get("normalizers") or ():
        check_normalizer(inner)
    if normalizer.get("type") != "Precompiled":
        return
    table = base64.b64decode(str(normalizer.get("precompiled_charsmap") or ""), validate=True)
    if not table:
        return
    size = int.from_bytes(table[:4], "little")
    if len(table) < 8 or size % 4 or not 4 <= size <= len(table) - 4:
        raise ValueError(f"its table of {len(table)} bytes claims {size} bytes of index")


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a JSON value is what an annotation says; a list will do for a tuple, a whole number for a float."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, one) for one in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin in (list, tuple, collections.abc.Sequence):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and Ellipsis not in arguments:
            return len(value) == len(arguments) and all(map(_is_a, value, arguments))
        return all(_is_a(item, arguments[0]) for item in value)
    return True


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _parts(inner)
