"""Our own layout's metadata, and how the other layouts we write carry the same: ranks, alphas, what the LoRA was made of.

One safetensors, keys `{component}.{path}.lora_A.weight` and `.lora_B.weight`; everything else is in its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from phonofilm.errors import CheckpointError
from phonofilm.lora.adapter import Adapter, LoraFile, most_common
from phonofilm.lora.sources import LoraSource
from phonofilm.lora.tensor_names import Parts
from phonofilm.models.checkpoint_files import listed
from phonofilm.untrusted import parse_json, shown

FORMAT_NAME, FORMAT_VERSION = "phonofilm-lora", "1"
COMPONENT_KEY = "phonofilm_component"  # in files that hold one component and cannot name it otherwise
SPOKEN_KEY = "phonofilm_metadata"  # in the other layouts: the LoraFile's metadata, as JSON
# Every layer's alpha, where the layout has one for all (lora_config.pt) or none (then it is the rank; as JSON in a header).
ALPHAS_KEY = "phonofilm_alphas"
_KINDS = {dict: "object", list: "list"}
_Kind = TypeVar("_Kind", dict[str, Any], list[Any])
STRUCTURE = ("format", "format_version", "rank", "alpha", "rank_exceptions", "alpha_exceptions")


def header_of(lora: LoraFile) -> dict[str, str]:
    """The header of our own layout: per component the rank and alpha most layers have, and the layers that differ."""
    ranks, ranks_apart = _summary(lora, {c: {p: a.rank for p, a in ls.items()} for c, ls in lora.adapters.items()})
    alphas, alphas_apart = _summary(lora, {c: {p: a.alpha for p, a in ls.items()} for c, ls in lora.adapters.items()})
    structure = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "rank": json.dumps(ranks),
        "alpha": json.dumps(alphas),
        "rank_exceptions": json.dumps(ranks_apart),
        "alpha_exceptions": json.dumps(alphas_apart),
    }
    if taken := [key for key in lora.metadata if key in STRUCTURE]:
        raise CheckpointError(f"metadata may not be called {listed(taken)}: the layout uses these names itself")
    return {**lora.metadata, **structure}


def _summary(lora: LoraFile, values: Mapping[str, Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    common = {component: most_common(layers) for component, layers in values.items()}
    apart = {f"{c}.{p}": values[c][p] for c, p, _ in lora.items() if values[c][p] != common[c]}
    return common, apart


def check_version(source: LoraSource, parts: Mapping[str, Parts]) -> None:
    """Raises CheckpointError when a file of our layout is of a later version, or its ranks are not what it says."""
    if (version := source.header.get("format_version")) != FORMAT_VERSION:
        raise CheckpointError(
            f"{source.path} has version {version} of the layout; this Phonofilm reads version {FORMAT_VERSION}; update it"
        )
    stated = _stated(source, parts, "rank")
    wrong = [
        f"{layer} has rank {one.down.shape[0]}, stated {stated.get(layer)}"
        for layer, one in parts.items()
        if one.down is not None and one.down.shape[:1] != (stated.get(layer),)
    ]
    if wrong:
        raise CheckpointError(f"{source.path}: {len(wrong)} adapters have another rank than stated: {listed(wrong)}")


def stated_alphas(source: LoraSource, parts: Mapping[str, Parts]) -> dict[str, float]:
    """Alpha by `component.path`, where the file is ours or one that we exported to a layout without alphas of layers."""
    if source.header.get("format") == FORMAT_NAME:
        return _stated(source, parts, "alpha")
    if ALPHAS_KEY in source.header:
        alphas: Any = _json(source, ALPHAS_KEY, source.header[ALPHAS_KEY], dict)
    else:
        alphas = source.config.get(ALPHAS_KEY, {})
    if not isinstance(alphas, dict):
        return {}
    if strange := [key for key, value in alphas.items() if not isinstance(value, int | float)]:
        raise CheckpointError(f"{source.path} states no number as the alpha of {shown(strange[0])}")
    return {str(key): float(value) for key, value in alphas.items()}


def metadata_of(source: LoraSource) -> dict[str, str]:
    """What the file says about how it was made."""
    if source.header.get("format") == FORMAT_NAME:
        return {key: value for key, value in source.header.items() if key not in STRUCTURE}
    text = source.header.get(SPOKEN_KEY) or source.config.get(SPOKEN_KEY)
    if not isinstance(text, str):
        return {}
    return {str(key): str(value) for key, value in _json(source, SPOKEN_KEY, text, dict).items()}


def said_by(lora: LoraFile) -> dict[str, str]:
    """The entry that carries the LoRA's metadata in other layouts; none when it has none."""
    return {SPOKEN_KEY: json.dumps(dict(lora.metadata), ensure_ascii=False, sort_keys=True)} if lora.metadata else {}


def _stated(source: LoraSource, parts: Mapping[str, Parts], what: str) -> dict[str, float]:
    """Rank or alpha of every layer as the header gives it."""
    common = _json(source, what, source.header.get(what, ""), dict)
    apart = _json(source, f"{what}_exceptions", source.header.get(f"{what}_exceptions", "{}"), dict)
    found: dict[str, float] = {}
    for layer in parts:
        value = apart.get(layer, common.get(layer.partition(".")[0]))
        if not isinstance(value, int | float):
            raise CheckpointError(f"{source.path} states no {what} for {layer}")
        found[layer] = value if what == "rank" else float(value)
    return found


def json_list(source: LoraSource, key: str) -> frozenset[str]:
    """The names that the header lists under `key`; none when it has no such entry."""
    return frozenset(str(name) for name in _json(source, key, source.header.get(key, "[]"), list))


def _json(source: LoraSource, key: str, text: str, kind: type[_Kind]) -> _Kind:
    """The object (dict) or list that the text of metadata `key` is. Raises CheckpointError for anything else."""
    try:
        content = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{source.path} has metadata {key!r} that is no JSON: {error}") from error
    if not isinstance(content, kind):
        raise CheckpointError(f"{source.path} has metadata {key!r} that is no JSON {_KINDS[kind]}")
    return content


def tensors_of(adapters: Mapping[str, Adapter], prefix: str, down: str, up: str) -> dict[str, Any]:
    """Tensors by key: prefix, path, then the names `down` and `up` of the two halves."""
    tensors = {f"{prefix}{path}{down}": adapter.down for path, adapter in adapters.items()}
    return tensors | {f"{prefix}{path}{up}": adapter.up for path, adapter in adapters.items()}


def folded(adapter: Adapter, scale: float) -> Adapter:
    """The adapter whose up matrix does at `scale` (alpha / rank) what the given one does at its own."""
    return adapter if adapter.scale == scale else replace(adapter, up=adapter.up * (adapter.scale / scale))


def unfolded(adapter: Adapter, source: LoraSource) -> Adapter:
    """`folded` undone, where it was we who folded: exactly for powers of two, else up to rounding."""
    if ALPHAS_KEY in source.header:
        return folded_back(adapter, 1.0)
    if ALPHAS_KEY not in source.config:
        return adapter
    alpha, rank = source.config.get("alpha"), source.config.get("rank")
    if not isinstance(alpha, int | float) or not isinstance(rank, int) or not alpha or not rank or not adapter.alpha:
        raise CheckpointError(
            f"{source.path} has alpha {alpha!r} and rank {rank!r} beside it; expected numbers above 0"
        )
    return folded_back(adapter, alpha / rank)


def folded_back(adapter: Adapter, scale: float) -> Adapter:
    """The adapter that `folded` made another of, for `scale`."""
    return adapter if adapter.scale == scale else replace(adapter, up=adapter.up / (adapter.scale / scale))
