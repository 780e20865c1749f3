"""Weights into networks: one tensor at a time, memory-mapped where they can stay as they are. Checks live in layout.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from phonofilm.errors import CheckpointError, InputError
from phonofilm.models.audio_vae import fuse_weight_norm
from phonofilm.models.building import Placement
from phonofilm.models.layout import NETWORKS, CheckpointLayout, check_tokenizer
from phonofilm.models.quantized import is_stored
from phonofilm.models.shards import TensorEntry, TensorReader
from phonofilm.untrusted import shown

Dtypes = torch.dtype | Mapping[str, torch.dtype] | None
LoadProgress = Callable[[str, int, int], None]
DEFAULT_KEY = "default"
# Bytes; what PyTorch's own memory on the host starts at a multiple of.
HOST_ALIGNMENT = 64
# Read by a tokenizer as soon as it is loaded: a broken table shows then, and not in the middle of a run.
TRIAL = "A man says: \u201cna\u00efve \u2167 \ufb01ne \u4f60\u597d\u201d\u00a0\u2026"


def load_components(
    layout: CheckpointLayout,
    torch_dtype: Dtypes = None,
    *,
    skip: Collection[str] = (),
    device: torch.device | str = "cpu",
    progress: LoadProgress | None = None,
) -> dict[str, nn.Module]:
    """Every network of the checkpoint, by its slot's name, in evaluation mode.

    `torch_dtype`: one for all; or per component, with "default" for the rest; None, and what a mapping leaves out, keeps
    the dtype of the file. `progress(name, bytes_done, bytes_total)` is called as each component's tensors arrive. Raises
    InputError for a dtype given to no component, and CheckpointError as `load_component` does.
    """
    named = torch_dtype if isinstance(torch_dtype, Mapping) else {}
    if unknown := [name for name in named if name not in (*NETWORKS, DEFAULT_KEY)]:
        raise InputError(f"torch_dtype names {unknown[0]!r}; expected {DEFAULT_KEY!r} or one of {', '.join(NETWORKS)}")
    default = named.get(DEFAULT_KEY) if isinstance(torch_dtype, Mapping) else torch_dtype
    return {
        name: load_component(layout, name, named.get(name, default), device, progress)
        for name in layout.components
        if name not in skip
    }


def load_component(
    layout: CheckpointLayout,
    name: str,
    torch_dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    progress: LoadProgress | None = None,
) -> nn.Module:
    """One network with its weights, in evaluation mode.

    On the CPU a tensor that keeps its dtype is a private memory map of the file; any other is read, converted and moved a
    chunk at a time. Either way memory never holds more than the weights kept plus one chunk. Raises CheckpointError when
    the checkpoint has no such component or the file changed since its layout was read.
    """
    component = layout.components.get(name)
    if component is None:
        raise CheckpointError(f"{layout.folder} has no network {name!r}; it has {', '.join(layout.components)}")
    placements, module = component.placements, component.take_skeleton()
    in_float32 = _kept_in_float32(module) if torch_dtype == torch.float16 else frozenset()
    tensors = module.state_dict(keep_vars=True)
    target, done, total = torch.device(device), 0, component.nbytes
    reader = TensorReader()
    for placement in placements:
        kept = in_float32.intersection(placement.names[0].split("."))
        stored = is_stored(tensors[placement.names[0]])
        wanted = None if stored else torch.float32 if kept else torch_dtype
        _assign(module, placement.names, _read(placement, wanted, target, reader))
        done += sum(entry.nbytes for entry in placement.sources)
        if progress is not None:
            progress(name, done, total)
    persistent = {place for placement in placements for place in placement.names}
    for buffer_name, buffer in list(module.named_buffers()):
        if buffer_name not in persistent:
            _assign(module, (buffer_name,), buffer.to(target))
    return module.eval()


def align_on_host(network: nn.Module) -> None:
    """Copy the weights that start off a multiple of 64 bytes, as maps of files do, into memory of their own.

    A matrix product on a CPU rounds its last bit by where its operands start: without this a clip would change with the
    length of a file's header, and with whether its layers are streamed.
    """
    for weight in (*network.parameters(), *network.buffers()):
        if weight.device.type == "cpu" and weight.data_ptr() % HOST_ALIGNMENT:
            weight.data = weight.data.clone()


def load_tokenizer(layout: CheckpointLayout) -> PreTrainedTokenizerFast:
    """The tokenizer exactly as tokenizer.json defines it.

    The T5 class of transformers 5 would rebuild it from the vocabulary alone, and lose the file's own normaliser.
    Raises CheckpointError for one that cannot be read.
    """
    folder = layout.folder / "tokenizer"
    if not layout.tokenizer_checked:
        check_tokenizer(layout.folder)
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        tokenizer(TRIAL)
    except BaseException as error:
        # tokenizers, written in Rust, raises Exception itself, and PanicException, which is none.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = shown(" ".join(str(error).split()))
        raise CheckpointError(f"the tokenizer in {folder} cannot be read: {reason}; download it again") from error
    return tokenizer


def _read(placement: Placement, dtype: torch.dtype | None, device: torch.device, reader: TensorReader) -> Tensor:
    """The tensor of `placement` in `dtype` (None: the file's) on `device`."""
    first = placement.sources[0]
    if len(placement.sources) > 1:
        pair = {entry.key: _read_entry(entry, None, torch.device("cpu"), reader) for entry in placement.sources}
        (fused,) = fuse_weight_norm(pair).values()
        return fused.to(device=device, dtype=dtype or first.dtype)
    return _read_entry(first, dtype, device, reader)


def _read_entry(entry: TensorEntry, dtype: torch.dtype | None, device: torch.device, reader: TensorReader) -> Tensor:
    # Integers (counters among the buffers) keep their type: torch_dtype is about the weights.
    wanted = entry.dtype if dtype is None or not entry.dtype.is_floating_point else dtype
    if wanted == entry.dtype and device.type == "cpu":
        return reader.mapped(entry)
    return reader.converted(entry, wanted, device)


def _kept_in_float32(module: nn.Module) -> frozenset[str]:
    """Submodules that overflow in half precision, by their class's own account (the text encoder's `wo`)."""
    return frozenset(getattr(module, "_keep_in_fp32_modules", None) or ())


def _assign(module: nn.Module, names: Sequence[str], tensor: Tensor) -> None:
    """Puts one tensor in all its places: as the same parameter where parameters are tied, else as a buffer."""
    parameter: nn.Parameter | None = None
    for name in names:
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        if leaf in owner._buffers:
            owner._buffers[leaf] = tensor
            continue
        if parameter is None:
            parameter = nn.Parameter(tensor, requires_grad=owner._parameters[leaf].requires_grad)  # type: ignore[union-attr]
        owner._parameters[leaf] = parameter
