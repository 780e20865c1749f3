"""The pipeline's LoRAs, under diffusers' names: load, set, unload. They are merged into the weights (docs/decisions/0005)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from phonofilm.errors import InputError
from phonofilm.lora.adapter import LoraFile
from phonofilm.lora.apply import MergedLoras, Use
from phonofilm.lora.components import LORA_COMPONENTS
from phonofilm.lora.reading import read_lora
from phonofilm.lora.strength import Strength
from phonofilm.pipeline.few_step_loras import few_steps_of_loras
from phonofilm.pipeline.few_steps import FewSteps


@runtime_checkable
class FetchesAhead(Protocol):
    """An engine that has copies of weights which may be older than the weights."""

    def weights_changed(self) -> None:
        """Forget the copies."""


class LoraMethods:
    """What a pipeline with `video_dit`, `video_dit_2`, `audio_dit`, `dual_tower_bridge` and `engine` can do with LoRAs.

    Weights wait, run and stream as they did before: a LoRA costs nothing per step. It also works while an engine streams
    layers or offloading is on; only quantised weights and weights on disk are refused.
    """

    engine: Any

    def __init__(self) -> None:
        super().__init__()
        self._merged = MergedLoras()
        self._loaded: dict[str, LoraFile] = {}
        self._active: dict[str, Strength] = {}

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | Path | LoraFile,
        adapter_name: str | None = None,
        *,
        weight: Strength = 1.0,
        expert: str | None = None,
        alpha: float | None = None,
    ) -> str:
        """Read a LoRA, in any layout, and add it to those at work. Returns its name.

        Args:
            pretrained_model_name_or_path_or_dict: a file or folder, or one that `read_lora` has read.
            adapter_name: default_0, default_1, ... by default.
            weight: how strongly it works: a number, or one per part ("video", "high", "low", "audio", "bridge", and the
                bridge's directions "a2v" and "v2a"); parts that are not named have 1.
            expert: high, low, audio or bridge: what a file is for that does not say it.
            alpha: instead of the file's.

        Raises InputError for a name that is taken or a weight of no sense; CheckpointError when any tensor of the file
        belongs to no layer of this model. Nothing is changed then.
        """
        name = self._free_name() if adapter_name is None else adapter_name
        if name in self._loaded:
            raise InputError(
                f"a LoRA named {name!r} is loaded already; choose another adapter_name, or unload it first"
            )
        source = pretrained_model_name_or_path_or_dict
        lora = (
            source
            if isinstance(source, LoraFile)
            else read_lora(source, self._lora_parts(), expert=expert, alpha=alpha)
        )
        self._merge({**self._loaded, name: lora}, {**self._active, name: weight})
        return name

    def set_adapters(
        self,
        adapter_names: str | Sequence[str],
        adapter_weights: Strength | Sequence[Strength] | None = None,
    ) -> None:
        """Put exactly these of the loaded LoRAs to work, with these weights (1 by default; one for all, or one each).

        Raises InputError for a name that is not loaded, or another number of weights than of names.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        if unknown := [name for name in names if name not in self._loaded]:
            loaded = ", ".join(self._loaded) or "none"
            raise InputError(f"no LoRA named {unknown[0]!r} is loaded; loaded are {loaded}")
        one_for_all = adapter_weights is None or isinstance(adapter_weights, int | float | Mapping)
        weights: list[Any] = [adapter_weights] * len(names) if one_for_all else list(adapter_weights)  # type: ignore[arg-type]
        if len(weights) != len(names):
            raise InputError(f"{len(weights)} weights were given for {len(names)} LoRAs; give one, or one each")
        active = {name: 1.0 if weight is None else weight for name, weight in zip(names, weights, strict=True)}
        self._merge(self._loaded, active)

    @property
    def few_steps(self) -> FewSteps | None:
        """What the distilled LoRA among those at work must be sampled with."""
        uses = {name: Use(self._loaded[name], strength) for name, strength in self._active.items()}
        return few_steps_of_loras({name: use.lora for name, use in uses.items() if use.works})

    def get_active_adapters(self) -> list[str]:
        """Names of the LoRAs at work, in the order in which they were loaded or set."""
        return list(self._active)

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Names of all loaded LoRAs by the part of the model that they change."""
        return {
            component: names
            for component in LORA_COMPONENTS
            if (names := [name for name, lora in self._loaded.items() if component in lora.adapters])
        }

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Take some LoRAs out and forget them. Raises InputError for a name that is not loaded."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        if unknown := [name for name in names if name not in self._loaded]:
            raise InputError(f"no LoRA named {unknown[0]!r} is loaded; loaded are {', '.join(self._loaded) or 'none'}")
        kept = {name: lora for name, lora in self._loaded.items() if name not in names}
        self._merge(kept, {name: weight for name, weight in self._active.items() if name in kept})

    def unload_lora_weights(self) -> None:
        """Take every LoRA out: each weight is again what it was before the first, bit by bit."""
        self._merge({}, {})

    def forget_component(self, component: str) -> None:
        """A network was given up to free memory: the LoRAs keep nothing of it either."""
        self._merged.forget(component)

    def _merge(self, loaded: Mapping[str, LoraFile], active: Mapping[str, Strength]) -> None:
        at_work = [(name, loaded[name], strength) for name, strength in active.items()]
        if at_work == [(name, self._loaded[name], strength) for name, strength in self._active.items()]:
            self._loaded = dict(loaded)
            return
        parts = self._lora_parts()
        uses = [Use(loaded[name], strength) for name, strength in active.items()]
        self._merged.set(parts, uses, in_place=self.engine is not None or any(map(_offloaded_by_layer, parts.values())))
        self._loaded, self._active = dict(loaded), dict(active)
        if isinstance(self.engine, FetchesAhead):
            self.engine.weights_changed()

    def _lora_parts(self) -> dict[str, nn.Module | None]:
        return {name: getattr(self, name) for name in LORA_COMPONENTS}

    def _free_name(self) -> str:
        return next(
            name for number in range(len(self._loaded) + 1) if (name := f"default_{number}") not in self._loaded
        )


def _offloaded_by_layer(module: nn.Module | None) -> bool:
    """diffusers' group offloading keeps the host's copy of every weight for itself. Raises InputError if on disk."""
    modules = () if module is None else module.modules()
    hooks = [vars(one)["_diffusers_hook"] for one in modules if "_diffusers_hook" in vars(one)]
    groups = [hook.get_hook("group_offloading") for hook in hooks]
    if any(group is not None and group.group.offload_to_disk_path is not None for group in groups):
        raise InputError(
            "weights wait in files of group offloading, which LoRAs do not reach; load LoRAs before offloading"
        )
    return bool(hooks)
