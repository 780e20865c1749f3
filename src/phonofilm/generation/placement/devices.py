"""Where and how the networks run: device, precision, offloading, attention backend, computing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from phonofilm.errors import InputError, OutOfMemoryError
from phonofilm.generation.outputs import check_writable
from phonofilm.generation.placement.attention import attention_backend_name
from phonofilm.generation.placement.computing import Computing, choose_computing

if TYPE_CHECKING:
    import torch

    from phonofilm.pipeline.mova import MovaPipeline

DTYPES = ("auto", "float32", "bfloat16", "float16")
OFFLOADS = ("auto", "none", "model", "layer", "cpu", "group")


@dataclass(frozen=True)
class DevicePlacement:
    """The device a run uses and how. `attention` is a backend by diffusers' name; `disk` a folder for layers that wait in files.

    offload: "auto" until offload.resolve_placement has decided; "cpu" is another word for "model", and "group" is diffusers' own.
    slots, resident: layers on the device with "layer": those that pass through, and those of each expert that stay.
    keeps_text: with "layer", whether prompts' keys and values stay on the device too.
    """

    device: torch.device
    dtype: torch.dtype
    offload: str = "none"
    attention: str = "native"
    disk: Path | None = None
    slots: int = 2
    resident: int = 0
    keeps_text: bool = True
    vae_tiling: bool = False
    computing: Computing = field(default_factory=Computing)

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def offloads(self) -> bool:
        """Whether weights wait in host memory. On a CPU, one component at a time, they are there already."""
        return self.offload in ("group", "layer") or (self.by_component and self.device.type != "cpu")

    @property
    def by_component(self) -> bool:
        return self.offload in ("model", "cpu")


def choose_placement(
    device: str = "auto",
    dtype: str = "auto",
    offload: str = "none",
    attention: str | None = None,
    disk: Path | None = None,
    kernels: str = "auto",
    quantize: str | None = None,
    compiles: bool = False,
) -> DevicePlacement:
    """The placement for these words. Raises InputError for a word that is unknown, or a device or backend that is not here."""
    import torch

    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")
    if offload not in OFFLOADS:
        raise InputError(f"offload {offload!r} is unknown; use one of {', '.join(OFFLOADS)}")
    if disk is not None and offload not in ("group", "layer", "auto"):
        raise InputError(f"a folder to offload to was given, but offload is {offload}; use offload group or layer")
    if disk is not None:
        check_writable(disk / "layers", overwrite=True)
    chosen = choose_device(device)
    if offload == "layer" and chosen.type not in ("cuda", "cpu"):
        raise InputError(f"offload layer needs a CUDA device, or the CPU to see it work; {chosen} is neither")
    usual = torch.float32 if chosen.type == "cpu" else torch.bfloat16
    precision = usual if dtype == "auto" else getattr(torch, dtype)
    backend = {None: "native", "auto": "auto"}.get(attention) or attention_backend_name(
        str(attention), chosen, precision
    )
    computing = choose_computing(kernels, quantize, compiles, chosen, offload)
    return DevicePlacement(chosen, precision, offload, backend, disk, computing=computing)


def choose_device(name: str) -> torch.device:
    """ "auto" (the first GPU there is, else the CPU), "cpu", "mps", "cuda" or "cuda:N"; only ones that are here."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda":
        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= here:
            raise InputError(f"device {name} is not here: PyTorch sees {here} CUDA devices; use device=cpu or auto")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps is not here; use device=cpu or auto")
    elif device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {name!r} is not supported; use auto, cpu, cuda, cuda:N or mps")
    return device


@contextmanager
def explaining_memory(placement: DevicePlacement, several: bool = False) -> Iterator[None]:
    """Running out of memory becomes an error that says what helps. several: whether other devices share the work."""
    import torch

    try:
        yield
    except RuntimeError as error:
        # PyTorch has a class for a GPU that is full and only a message for the host.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        advice = ["a smaller size", "fewer frames", *_what_saves_memory(placement, several)]
        raise OutOfMemoryError(f"out of memory on {placement.device}; try {', '.join(advice)}") from error


def _what_saves_memory(placement: DevicePlacement, several: bool) -> Iterator[str]:
    """Options that were not used, and would work here."""
    if not placement.vae_tiling:
        yield "vae_tiling=True (if it was the decoder)"
    if placement.device.type != "cuda":
        return
    if several:
        yield from ("more gpus", "shard_weights=True")
    elif placement.offload != "layer":
        yield from ("offload=layer", "a lower vram_limit")
    elif placement.resident:
        yield "a lower vram_limit"
    elif placement.slots > 1:
        yield "slots=1"


def place(pipe: MovaPipeline, placement: DevicePlacement) -> TemporaryDirectory[str] | None:
    """Set up offloading by component or diffusers' by group; without any, the weights were loaded where they run.

    Returns the folder in which offloaded layers lie, if any: it must live as long as the pipeline.
    """
    if placement.offload == "group":
        return _offload_by_layer(pipe, placement)
    if placement.by_component and placement.device.type != "cpu":
        pipe.enable_model_cpu_offload(device=placement.device)
    return None


def _offload_by_layer(pipe: MovaPipeline, placement: DevicePlacement) -> TemporaryDirectory[str] | None:
    import torch
    from diffusers.hooks import apply_group_offloading

    folder: TemporaryDirectory[str] | None = None
    if placement.disk is not None:
        # Files that lie there already would be taken for this pipeline's layers, so each run has a folder of its own;
        # and so has each network, because layers of the same name in two of them share a file name.
        placement.disk.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(prefix="phonofilm-", dir=placement.disk)
    if pipe.text_encoder is not None:
        # Its two embeddings share a weight, which would be put away twice, the second time empty. One module has it once.
        pipe.text_encoder.set_input_embeddings(pipe.text_encoder.get_input_embeddings())
    streams = placement.device.type == "cuda"
    for name, network in pipe.components.items():
        if network is pipe.video_vae and placement.device.type == "cpu":
            continue  # small clips go through it at once, which reads its weights without calling its modules
        if isinstance(network, torch.nn.Module):
            apply_group_offloading(
                network,
                onload_device=placement.device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=streams,
                low_cpu_mem_usage=streams,
                offload_to_disk_path=None if folder is None else str(Path(folder.name) / name),
            )
    return folder
