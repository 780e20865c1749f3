"""Networks into a checkpoint folder of the released layout and names, so that other MOVA tools open what we save."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import ConfigMixin
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from phonofilm.errors import InputError
from phonofilm.files import replacing
from phonofilm.models.building import tensor_groups
from phonofilm.models.checkpoint_files import INDEX_SUFFIX, MODEL_INDEX, read_json, weights_stem
from phonofilm.models.checksums import write_checksums
from phonofilm.models.layout import (
    COMPONENT_CLASSES,
    NETWORKS,
    OPTIONAL,
    PIPELINE_CLASS,
    read_layout,
)
from phonofilm.models.scalars import SCHEDULER_CONFIG, PipelineScalars
from phonofilm.units import format_size, parse_size

READABLE = 0o644
# How the tokenizer was opened, which transformers would write down as if it were part of it.
OPENING_KEYS = ("is_local", "local_files_only", "name_or_path")
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (
    *("tokenizer.json", TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "spiece.model"),
)


def save_checkpoint(
    folder: Path | str,
    components: Mapping[str, nn.Module],
    tokenizer: PreTrainedTokenizerFast,
    scheduler_config: Mapping[str, Any],
    scalars: PipelineScalars,
    *,
    tokenizer_class: str = COMPONENT_CLASSES["tokenizer"][0][1],
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
) -> Path:
    """Writes a whole checkpoint, or nothing: into a folder beside `folder`, checked, then renamed.

    `components` by slot name, each in the dtype it has (without video_dit_2: a checkpoint of one expert);
    `tokenizer_class` as it was read; `max_shard_size` in bytes or like "5GB". Raises InputError when `folder` is not
    empty and `overwrite` is not set, or is no checkpoint, when a component is missing, or when the disk is too small.
    """
    target = Path(folder).absolute()
    require_replaceable(target, overwrite)
    if missing := [name for name in NETWORKS if name not in components and name not in OPTIONAL]:
        raise InputError(f"cannot save a checkpoint without {', '.join(missing)}")
    limit = parse_size(max_shard_size, "max_shard_size")
    with _safetensors_errors(target), replacing(target, error=InputError) as partial:
        partial.mkdir()
        _require_space(partial, components)
        for name in NETWORKS:
            if name in components:
                save_component(partial / name, components[name], limit)
        _save_tokenizer(partial / "tokenizer", tokenizer, tokenizer_class)
        (partial / "scheduler").mkdir()
        _write_json(
            partial / "scheduler" / SCHEDULER_CONFIG, _stamped(COMPONENT_CLASSES["scheduler"][0][1], scheduler_config)
        )
        _write_json(partial / MODEL_INDEX, _model_index(components, tokenizer_class, scalars))
        read_layout(partial)
        write_checksums(partial)
    return target


def save_component(
    folder: Path,
    module: nn.Module,
    max_shard_bytes: int,
    weights: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """One network's config and weights in a new folder, in shards of at most `max_shard_bytes` when it is larger.

    `weights`, by name, take the place of the module's own, which may be elsewhere; they are read one shard at a time.
    `dtype`: what floating-point numbers are written as.
    """
    folder.mkdir()
    if isinstance(module, UMT5EncoderModel):
        config = copy.deepcopy(module.config)
        config.architectures, config.dtype = [type(module).__name__], module.dtype
        config.save_pretrained(folder)
    elif isinstance(module, ConfigMixin):
        module.save_config(folder)
        # diffusers also writes the path that the module was loaded from; it does not belong in a checkpoint.
        config = read_json(folder / "config.json")
        config.pop("_name_or_path", None)
        _write_json(folder / "config.json", config)
    else:
        raise InputError(f"{folder.name} is a {type(module).__name__}, which the checkpoint format does not know")
    stem = weights_stem(type(module).__name__)
    groups = {names[0]: tensor for names, tensor in tensor_groups(module)}
    shapes = {n: torch.empty(t.shape, dtype=_written_as(t, dtype), device="meta") for n, t in groups.items()}
    own = module.state_dict()
    weights = weights or {}

    def tensors(names: Iterable[str]) -> dict[str, Tensor]:
        return {name: (weights[name] if name in weights else own[name]).to(shapes[name].dtype) for name in names}

    shards = split_shards(shapes, max_shard_bytes)
    if len(shards) == 1:
        _save_shard(folder / f"{stem}.safetensors", tensors(shapes))
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = folder / f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        _save_shard(file, tensors(shard))
        weight_map |= dict.fromkeys(shard, file.name)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(folder / f"{stem}.safetensors{INDEX_SUFFIX}", index)


def _written_as(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return tensor.dtype if dtype is None or not tensor.is_floating_point() else dtype


def split_shards(state: Mapping[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    """The tensors in their order, cut wherever the next would exceed `max_bytes`; a larger one is alone in its shard."""
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for key, tensor in state.items():
        if shards[-1] and filled + tensor.nbytes > max_bytes:
            shards.append({})
            filled = 0
        shards[-1][key] = tensor
        filled += tensor.nbytes
    return shards


def _save_shard(file: Path, tensors: Mapping[str, Tensor]) -> None:
    # "format" tells transformers and diffusers that these are torch's tensors.
    save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, file, {"format": "pt"})
    file.chmod(READABLE)  # safetensors leaves it to its owner alone


def _save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast, tokenizer_class: str) -> None:
    """The files it was read from, byte for byte, unless it was changed since: transformers 5 would write other ones."""
    source = Path(tokenizer.name_or_path)
    if _is_as_read(tokenizer, source):
        folder.mkdir()
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        if isinstance(read_json(folder / TOKENIZER_CONFIG).get("extra_special_tokens"), list):
            _write_json(folder / TOKENIZER_CONFIG, _for_transformers_4(read_json(folder / TOKENIZER_CONFIG)))
        return
    tokenizer.save_pretrained(folder)
    config = {key: value for key, value in read_json(folder / TOKENIZER_CONFIG).items() if key not in OPENING_KEYS}
    _write_json(folder / TOKENIZER_CONFIG, {**_for_transformers_4(config), "tokenizer_class": tokenizer_class})
    backend = read_json(folder / "tokenizer.json")
    if backend.get("padding") or backend.get("truncation"):  # left over from the last call, not the tokenizer's own
        backend |= {"padding": None, "truncation": None}
        (folder / "tokenizer.json").write_text(json.dumps(backend, indent=2, ensure_ascii=False), encoding="utf-8")


def _for_transformers_4(config: Mapping[str, Any]) -> dict[str, Any]:
    """transformers 4, the original's requirement, fails on a list here, which 5 writes; both read the older name."""
    special = config.get("extra_special_tokens")
    others = {key: value for key, value in config.items() if key != "extra_special_tokens"}
    return {**others, "additional_special_tokens": special} if special else others


def _is_as_read(tokenizer: PreTrainedTokenizerFast, folder: Path) -> bool:
    """Whether it does what the files in `folder` say. How the last call padded and cut does not count."""
    if not (folder / "tokenizer.json").is_file():
        return False
    read = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    now, then = (
        {**json.loads(one.backend_tokenizer.to_str()), "padding": None, "truncation": None} for one in (tokenizer, read)
    )
    return now == then


def _model_index(components: Mapping[str, nn.Module], tokenizer_class: str, scalars: PipelineScalars) -> dict[str, Any]:
    classes: dict[str, list[str | None]] = {name: list(known[0]) for name, known in COMPONENT_CLASSES.items()}
    classes["tokenizer"] = [COMPONENT_CLASSES["tokenizer"][0][0], tokenizer_class]
    for name in OPTIONAL:
        if name not in components:
            classes[name] = [None, None]
    numbers = {name: value for name, value in asdict(scalars).items() if value is not None}
    return _stamped(PIPELINE_CLASS, {**classes, **numbers})


def _stamped(class_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    public = {key: value for key, value in config.items() if not key.startswith("_")}
    return {"_class_name": class_name, "_diffusers_version": diffusers.__version__, **public}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def update_model_index(folder: Path, entries: Mapping[str, Any]) -> None:
    """Put `entries` into the model_index.json of a checkpoint that is being written."""
    index = folder / MODEL_INDEX
    content = {**read_json(index), **entries}
    index.unlink()  # it may be a link to another checkpoint's
    _write_json(index, content)


def require_replaceable(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MODEL_INDEX).is_file():
        raise InputError(f"{target} exists and is no checkpoint, so it is not replaced; choose another folder")
    if not overwrite:
        raise InputError(f"{target} exists and is not empty; choose another folder or pass overwrite=True")


def _require_space(folder: Path, components: Mapping[str, nn.Module]) -> None:
    needed = sum(tensor.nbytes for module in components.values() for tensor in module.state_dict().values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(f"the checkpoint needs {format_size(needed)}, {folder.parent} has {format_size(free)} free")


@contextmanager
def _safetensors_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise InputError(f"cannot write {target}: {error}; nothing was kept") from error
