"""The checkpoint folder: its components by the names in model_index.json, their configs, and every check before loading.

Nothing in a checkpoint is imported or run: library and class names are looked up in a table of what the format knows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from phonofilm.errors import CheckpointError
from phonofilm.models.building import Placement, empty_module, place_tensors
from phonofilm.models.checkpoint_files import MODEL_INDEX as MODEL_INDEX  # callers take it from here
from phonofilm.models.checkpoint_files import listed, read_json, weights_stem
from phonofilm.models.config_check import check_depth, check_normalizer
from phonofilm.models.scalars import PipelineScalars, read_scalars, read_scheduler_config
from phonofilm.models.shards import TensorEntry, read_entries
from phonofilm.untrusted import shown

PIPELINE_CLASS = "MOVA"
PIPELINE_CLASSES = (PIPELINE_CLASS, "MOVATrain", "MOVALoRA")
# The released file format: what each slot of model_index.json may name. The first is what we write.
COMPONENT_CLASSES: dict[str, tuple[tuple[str, str], ...]] = {
    "video_dit": (("mova.diffusion.models.wan_video_dit", "WanModel"),),
    "video_dit_2": (("mova.diffusion.models.wan_video_dit", "WanModel"),),
    "audio_dit": (("mova.diffusion.models.wan_audio_dit", "WanAudioModel"),),
    "dual_tower_bridge": (("mova.diffusion.models.interactionv2", "DualTowerConditionalBridge"),),
    "audio_vae": (("mova.diffusion.models.dac_vae", "DAC"),),
    "video_vae": (("diffusers", "AutoencoderKLWan"),),
    "text_encoder": (("transformers", "UMT5EncoderModel"),),
    "tokenizer": (("transformers", "T5TokenizerFast"), ("transformers", "T5Tokenizer")),
    "scheduler": (("mova.diffusion.schedulers.flow_match_pair", "FlowMatchPairScheduler"),),
}
NETWORKS = tuple(name for name in COMPONENT_CLASSES if name not in ("tokenizer", "scheduler"))
OPTIONAL = ("video_dit_2",)  # a checkpoint of one expert has null here
# Widths that two components share; a checkpoint put together from several models may get them wrong.
MUST_AGREE = (
    (("video_dit", "dim"), ("video_dit_2", "dim")),
    (("video_dit", "num_layers"), ("video_dit_2", "num_layers")),
    (("video_dit", "dim"), ("dual_tower_bridge", "visual_hidden_dim")),
    (("audio_dit", "dim"), ("dual_tower_bridge", "audio_hidden_dim")),
    (("video_dit", "text_dim"), ("text_encoder", "d_model")),
    (("audio_dit", "text_dim"), ("text_encoder", "d_model")),
    (("video_dit", "out_dim"), ("video_vae", "z_dim")),
    (("audio_dit", "out_dim"), ("audio_vae", "latent_dim")),
)
# Keys of a tokenizer's settings by which transformers would look for code, or for a vocabulary, somewhere else.
CHOOSING_KEYS = ("auto_map", "trust_remote_code", "tokenizer_file", "vocab_file", "gguf_file", "fix_mistral_regex")


@dataclass(frozen=True)
class CheckpointComponent:
    """One network of a checkpoint: its class in the file format, its config.json, and where each of its tensors lies."""

    name: str
    folder: Path
    class_name: str
    config: Mapping[str, Any]
    entries: Mapping[str, TensorEntry]

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors on disk."""
        return sum(entry.nbytes for entry in self.entries.values())

    @cached_property
    def skeleton(self) -> nn.Module:
        """The network without weights, built once: to look at, not to change or to load into. Raises CheckpointError."""
        return empty_module(self.class_name, self.config, str(self.folder / "config.json"))

    @cached_property
    def placements(self) -> list[Placement]:
        """Which entry goes where in the network, matched once. Raises CheckpointError for entries that do not fit it."""
        return place_tensors(self.name, self.skeleton, self.entries)

    def take_skeleton(self) -> nn.Module:
        """The network without weights, for the caller to load into: the one that was looked at, if any was.

        Whoever looks at `skeleton` afterwards gets a new one. Raises CheckpointError.
        """
        module = self.skeleton
        del self.__dict__["skeleton"]  # where cached_property keeps it; the dataclass itself is frozen
        return module


@dataclass(frozen=True)
class CheckpointLayout:
    """A checkpoint folder that has passed every check that needs no weights. `components` holds the networks only."""

    folder: Path
    components: Mapping[str, CheckpointComponent]
    tokenizer_class: str
    scheduler_config: Mapping[str, Any]
    scalars: PipelineScalars
    tokenizer_checked: bool = False


def read_layout(folder: Path | str, skip: Collection[str] = ()) -> CheckpointLayout:
    """Reads and checks a checkpoint folder; takes no weights into memory.

    Checked: every component is known and present, configs parse, all shards are there and whole, no pickles, and every
    key and shape is the one the network expects. Components named in `skip` are neither checked nor returned. Raises
    CheckpointError at the first thing that is wrong.
    """
    root = Path(folder)
    try:
        index = read_model_index(root)
        components = {
            name: read_component(root, name, index[name][1])
            for name in NETWORKS
            if name not in skip and index[name][1] is not None
        }
        check_fit(root, components)
        if "tokenizer" not in skip:
            check_tokenizer(root)
        return CheckpointLayout(
            folder=root,
            components=components,
            tokenizer_class=str(index["tokenizer"][1]),
            scheduler_config=read_scheduler_config(root),
            scalars=read_scalars(root),
            tokenizer_checked="tokenizer" not in skip,
        )
    except CheckpointError as error:
        raise CheckpointError(f"{error}. For a full report run: phonofilm models verify {root}") from error


def read_model_index(root: Path) -> dict[str, tuple[str | None, str | None]]:
    """(library, class) of every slot of model_index.json; (None, None) for one left empty on purpose.

    Raises CheckpointError when the folder is no MOVA checkpoint, or names something the format does not know.
    """
    if not root.is_dir():
        raise CheckpointError(
            f"{root} is not a folder; give a checkpoint folder, a hub id, or one of: 360p, 720p, nano"
        )
    if not (root / MODEL_INDEX).is_file():
        raise CheckpointError(f"{root} has no {MODEL_INDEX}; it is no checkpoint in the released layout")
    content = read_json(root / MODEL_INDEX)
    if content.get("_class_name") not in PIPELINE_CLASSES:
        raise CheckpointError(
            f"{root / MODEL_INDEX} describes a {shown(content.get('_class_name'))} pipeline; expected {PIPELINE_CLASS}"
        )
    slots = {name: value for name, value in content.items() if isinstance(value, list)}
    if missing := [name for name in COMPONENT_CLASSES if name not in slots]:
        raise CheckpointError(
            f"{root / MODEL_INDEX} does not name {listed(missing)}; expected all of {', '.join(COMPONENT_CLASSES)}"
        )
    found: dict[str, tuple[str | None, str | None]] = {}
    for name, value in slots.items():
        if value == [None, None] and (name in OPTIONAL or name not in COMPONENT_CLASSES):
            found[name] = (None, None)
            continue
        known = COMPONENT_CLASSES.get(name, ())
        if not known:
            raise CheckpointError(
                f"{root / MODEL_INDEX} names an unknown component, {shown(name)}: {shown(value)}; "
                f"expected {', '.join(COMPONENT_CLASSES)}"
            )
        if tuple(value) not in known:
            options = " or ".join(f"{library}.{class_name}" for library, class_name in known)
            raise CheckpointError(
                f"{root / MODEL_INDEX} says that {name} is a {shown('.'.join(map(str, value)))}, which is not known and was not "
                f"imported; expected {options}"
            )
        found[name] = (value[0], value[1])
    return found


def read_component(root: Path, name: str, class_name: str | None) -> CheckpointComponent:
    """One network's config and tensor table, compared with the network itself. Raises CheckpointError."""
    folder = root / name
    if not folder.is_dir():
        raise CheckpointError(f"the component {name} is missing: there is no folder {folder}")
    config = read_json(folder / "config.json")
    entries = read_entries(folder, weights_stem(str(class_name)))
    try:
        check_depth(config, len(entries))
    except ValueError as error:
        raise CheckpointError(
            f"{folder / 'config.json'} describes another network than its weights: {error}"
        ) from error
    component = CheckpointComponent(name, folder, str(class_name), config, entries)
    _ = component.placements  # which compares the two
    return component


def check_fit(root: Path, components: Mapping[str, CheckpointComponent]) -> None:
    """Raises CheckpointError when components that are there were not made for each other."""
    for (one, one_key), (other, other_key) in MUST_AGREE:
        if one not in components or other not in components:
            continue
        left, right = components[one].config.get(one_key), components[other].config.get(other_key)
        if left is not None and right is not None and left != right:
            raise CheckpointError(
                f"the components of {root} do not fit together: {one} has {one_key} {left}, {other} has {other_key} {right}"
            )


def check_tokenizer(root: Path) -> None:
    """Raises CheckpointError unless tokenizer/ holds a readable tokenizer.json."""
    if not (root / "tokenizer").is_dir():
        raise CheckpointError(f"the component tokenizer is missing: there is no folder {root / 'tokenizer'}")
    file = root / "tokenizer" / "tokenizer.json"
    content = read_json(file)
    model = content.get("model")
    if not isinstance(model, dict) or not model.get("vocab"):
        raise CheckpointError(f"{file} has no model with a vocabulary; download it again")
    try:
        check_normalizer(content.get("normalizer"))
    except ValueError as error:
        raise CheckpointError(f"{file} has a broken normalizer: {error}; download it again") from error
    settings = root / "tokenizer" / "tokenizer_config.json"
    if settings.is_file() and (choosing := [key for key in CHOOSING_KEYS if key in read_json(settings)]):
        raise CheckpointError(f"{settings} has {choosing[0]}, which names code or files to load; remove that line")
