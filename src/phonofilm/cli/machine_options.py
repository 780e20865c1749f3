"""The options about hardware, once, for the commands that make clips: generate, serve, worker and studio.

Types and defaults are those of HardwareOptions; see option_groups.py.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.serving.ray_options import RayOptions

hardware = partial(typer.Option, rich_help_panel="Hardware")

# How one process computes, and where its weights wait.
ONE_DEVICE = {
    "device": hardware(help="auto, cpu, cuda, cuda:N or mps."),
    "dtype": hardware(help="auto, float32, bfloat16 or float16. auto: float32 on a CPU, else bfloat16."),
    "offload": hardware(help="Where weights wait: auto, none, model, layer; cpu (is model), group (diffusers')."),
    "offload_to_disk": hardware(metavar="DIR", help="With layers: let them wait in files here, written once."),
    "vram_limit": hardware(metavar="12GB", help="Device memory to plan with, instead of what is free."),
    "ram_limit": hardware(metavar="64GB", help="Host memory to plan with, instead of what is available."),
    "slots": hardware(min=1, help="Layers that stream through the device. [default: 2]"),
    "resident_layers": hardware(
        min=0, help="Layers of each expert that stay on the device; as many as fit by default."
    ),
    "vae_tiling": hardware(help="Decode in tiles (differs slightly); by default only where it must be."),
    "attn_backend": hardware(help="Attention backend; phonofilm doctor lists them. auto measures them (CUDA)."),
    "kernels": hardware(help="Norms, rotations and gates: auto (triton on CUDA), eager or triton."),
    "quantize": hardware(help="Fewer bits for the weights of towers and bridge: fp8, int8 or nf4. Lossy."),
    "compile": hardware("--compile", help="torch.compile the layers: a slow first step, faster ones after it."),
}
# How several devices share a clip.
SHARING = {
    "gpus": hardware(min=1, help="GPUs that share each clip. With torchrun, its own number."),
    "ulysses_degree": hardware(min=1, help="Of them, how many share the attention heads; as many as can by default."),
    "ring_degree": hardware(min=1, help="How many pass keys and values on; the rest by default."),
    "cfg_parallel": hardware("--cfg-parallel", help="Half of them takes every other evaluation of a step."),
    "shard_weights": hardware("--shard-weights", help="Each keeps a part of the weights, when they do not fit on one."),
}
RAY = hardware(metavar="[ADDRESS]", help="Share the work among workers on Ray; without an address here.")
REPLICAS = hardware(metavar="N|MIN:MAX", help="Workers on Ray; one for a server, else as many as fit.")
OnRay = Annotated[RayOptions, {"ray": RAY, "replicas": REPLICAS}]
OneDevice = Annotated[HardwareOptions, ONE_DEVICE]
SeveralDevices = Annotated[HardwareOptions, ONE_DEVICE | SHARING]
