"""The options about hardware, as given: device, precision, where weights wait, how many GPUs; and what they ask for here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phonofilm.errors import InputError

if TYPE_CHECKING:
    from phonofilm.generation.placement.devices import DevicePlacement
    from phonofilm.parallel.parallel_session import ParallelSession


@dataclass(frozen=True)
class HardwareOptions:
    """Options by the names of `phonofilm generate` and of `phonofilm.load`; None and "auto" are decided later.

    vram_limit, ram_limit: amounts such as "12GB". offload_to_disk: a folder for layers that wait in files.
    """

    device: str = "auto"
    dtype: str | None = None
    offload: str = "auto"
    offload_to_disk: Path | None = None
    vram_limit: str | None = None
    ram_limit: str | None = None
    slots: int | None = None
    resident_layers: int | None = None
    vae_tiling: bool | None = None
    gpus: int = 1
    ulysses_degree: int | None = None
    ring_degree: int | None = None
    cfg_parallel: bool = False
    shard_weights: bool = False
    attn_backend: str | None = None
    kernels: str = "auto"
    quantize: str | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        """Raises InputError for a number, a yes or no, or an amount that is of another kind; words are checked by their users."""
        kinds: dict[str, tuple[type, str]] = {
            **dict.fromkeys(
                ("slots", "resident_layers", "gpus", "ulysses_degree", "ring_degree"), (int, "a whole number")
            ),
            **dict.fromkeys(("vae_tiling", "cfg_parallel", "shard_weights", "compile"), (bool, "True or False")),
            **dict.fromkeys(("vram_limit", "ram_limit"), (str, 'an amount such as "12GB"')),
        }
        for name, (kind, expected) in kinds.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
                raise InputError(f"{name} is {value!r}, a {type(value).__name__}; expected {expected}")


def requested_placement(hardware: HardwareOptions, ranks: ParallelSession | None = None) -> DevicePlacement:
    """The placement that the options ask for, with what is "auto" left open. Raises InputError for what cannot be here."""
    from phonofilm.generation.placement.devices import choose_placement

    for name, given in (("quantize", hardware.quantize is not None), ("compile", hardware.compile)):
        if given and hardware.shard_weights:
            raise InputError(f"{name}= and shard_weights= do not work together; leave one out")
    return choose_placement(
        hardware.device if ranks is None else str(ranks.device),
        hardware.dtype or "auto",
        hardware.offload if ranks is None else ranks.offload(hardware.offload),
        hardware.attn_backend,
        hardware.offload_to_disk,
        kernels=hardware.kernels,
        quantize=hardware.quantize,
        compiles=hardware.compile,
    )
