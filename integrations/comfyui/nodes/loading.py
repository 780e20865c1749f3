"""The nodes around the model, and the one that examines a clip."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import Input, io, ui

from phonofilm import load

from . import inputs
from .inputs import CATEGORY, ModelType
from .media import clip_of
from .model import Model, SessionWeights
from .report import examine

FOLDER = "phonofilm"
KNOWN = ("nano", "360p", "720p")
TILING = {"auto": None, "on": True, "off": False}


class Load(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PhonofilmLoad",
            display_name="Phonofilm Load",
            category=CATEGORY,
            description="Opens a MOVA checkpoint. nano is small and part of the package; 360p and 720p are 78 GB, fetched once.",
            inputs=[
                io.Combo.Input("model", options=[*KNOWN, *_folders()], default="nano"),
                io.Combo.Input(
                    "offload", options=["auto", "none", "model", "layer"], default="auto", tooltip="Where weights wait."
                ),
                io.String.Input("vram_limit", default="", tooltip="Such as 12GB. Empty: what is free."),
                io.Combo.Input("dtype", options=["auto", "bfloat16", "float16", "float32"], default="auto"),
                io.Combo.Input("quantize", options=["none", "fp8", "int8", "nf4"], default="none", tooltip="Lossy."),
                io.Combo.Input("device", options=["auto", "cpu", "cuda", "mps"], default="auto"),
                io.Combo.Input(
                    "vae_tiling", options=list(TILING), default="auto", tooltip="Decode the picture in tiles."
                ),
            ],
            outputs=[ModelType.Output(display_name="model")],
        )

    @classmethod
    def execute(
        cls, model: str, offload: str, vram_limit: str, dtype: str, quantize: str, device: str, vae_tiling: str
    ) -> io.NodeOutput:
        session = load(
            model if model in KNOWN else _folder(model),
            device=device,
            dtype=dtype,
            offload=offload,
            vram_limit=vram_limit or None,
            quantize=None if quantize == "none" else quantize,
            vae_tiling=TILING[vae_tiling],
        )
        return io.NodeOutput(Model(session, SessionWeights(session)))


class Lora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PhonofilmLora",
            display_name="Phonofilm LoRA",
            category=CATEGORY,
            description="Adds a LoRA, of any layout that exists for MOVA; each part of the model has its strength.",
            inputs=[
                inputs.model(),
                io.Combo.Input("lora", options=folder_paths.get_filename_list("loras")),
                inputs.strength("video"),
                inputs.strength("audio"),
                inputs.strength("bridge"),
            ],
            outputs=[ModelType.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model: Model, lora: str, video: float, audio: float, bridge: float) -> io.NodeOutput:
        file = folder_paths.get_full_path_or_raise("loras", lora)
        return io.NodeOutput(model.with_lora(f"{file}:video={video},audio={audio},bridge={bridge}"))


class Inspect(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PhonofilmInspect",
            display_name="Phonofilm Inspect",
            category=CATEGORY,
            description="Measures a video: lengths of both tracks, loudness, silence, clipping, frozen frames, onsets.",
            inputs=[inputs.video("A video, with sound or without.")],
            outputs=[io.String.Output(display_name="report")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, video: Input.Video) -> io.NodeOutput:
        report = examine(clip_of(video))
        return io.NodeOutput(report, ui=ui.PreviewText(report))


def _folders() -> list[str]:
    """Checkpoint folders in models/phonofilm."""
    root = Path(folder_paths.models_dir) / FOLDER
    return sorted(one.parent.name for one in root.glob("*/model_index.json"))


def _folder(name: str) -> str:
    return str(Path(folder_paths.models_dir) / FOLDER / name)


NODES = [Load, Lora, Inspect]
