"""MOVA's own command, with the flags its users know: one prompt and one first frame to one mp4.

Runs with torchrun and without it; `--cp_size N` takes N GPUs either way. `phonofilm generate` does the same and more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from phonofilm.cli.progress import open_display
from phonofilm.cli.wording import in_flags
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.run import RunOptions
from phonofilm.generation.run import run as run_generation
from phonofilm.parallel.rank import launcher_rank
from phonofilm.pipeline.call_arguments import NEGATIVE_PROMPT

# The original's names of attention kernels, and ours. What has no counterpart is refused.
ATTENTION = {
    "torch": "native",
    "fa": "flash",
    "fa3": "flash_3",
    "sage_auto": "sage",
    "sage_fp16": "sage_qk_int8_pv_fp16_cuda",
    "sage_fp16_triton": "sage_qk_int8_pv_fp16_triton",
    "sage_fp8": "sage_qk_int8_pv_fp8_cuda",
    "sage_fp8_sm90": "sage_qk_int8_pv_fp8_cuda_sm90",
    "aiter": "aiter_fa2_hub",
    "npu": "native_npu",
    "flashinfer": None,
    "sparse_sage": None,
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--ckpt_path", required=True, help="checkpoint folder, hub id, or nano, 360p, 720p")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--negative_prompt", default=NEGATIVE_PROMPT)
    parser.add_argument("--ref_path", type=Path, required=True, help="the first frame")
    parser.add_argument("--output_path", type=Path, default=Path("./data/samples/output.mp4"))
    parser.add_argument("--num_frames", type=int, default=193, help="1 + a multiple of 4")
    parser.add_argument("--fps", default="24.0")
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--num_inference_steps", type=int, default=50)
    parser.add_argument("--cfg_scale", type=float, default=5.0)
    parser.add_argument(
        "--sigma_shift",
        type=float,
        default=None,
        help="shift of both schedules, picture and sound; by default the checkpoint's",
    )
    parser.add_argument("--cp_size", type=int, default=1, help="GPUs that share the clip")
    parser.add_argument(
        "--attn_type",
        choices=tuple(ATTENTION),
        default=None,
        help="attention kernel; by default PyTorch's own, which picks the best it has",
    )
    parser.add_argument(
        "--offload",
        choices=("none", "cpu", "group"),
        default="none",
        help="cpu: components wait in host RAM; group: layers do",
    )
    parser.add_argument("--offload_to_disk_path", type=Path, default=None, help="with --offload group: wait there")
    parser.add_argument(
        "--remove_video_dit", action="store_true", help="free the high-noise expert once the other takes over"
    )
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> Path | None:
    """The file that was written, if it was by this process: alone, or as the first of the ranks that share the work."""
    attention = None if args.attn_type is None else ATTENTION[args.attn_type]
    if args.attn_type is not None and attention is None:
        raise InputError(f"--attn_type {args.attn_type} is not available here; use torch, fa, fa3 or a sage kernel")
    several = args.cp_size > 1 or launcher_rank() is not None
    if several and args.remove_video_dit:
        raise InputError("--remove_video_dit is for one GPU; leave it out with --cp_size")
    clip = ClipOptions(
        prompt=args.prompt,
        negative_prompt=args.negative_prompt,
        image=args.ref_path,
        size=f"{args.width}x{args.height}",
        num_frames=args.num_frames,
        fps=args.fps,
        steps=args.num_inference_steps,
        guidance_scale=args.cfg_scale,
        video_shift=args.sigma_shift,
        audio_shift=args.sigma_shift,
        seed=args.seed,
        output=args.output_path,
    )
    hardware = HardwareOptions(
        device=("cuda" if torch.cuda.is_available() else "cpu") if several else "auto",
        offload=args.offload,
        offload_to_disk=args.offload_to_disk_path,
        gpus=args.cp_size,
        attn_backend=attention,
    )
    options = RunOptions(clip, hardware, model=args.ckpt_path, overwrite=True, remove_video_dit=args.remove_video_dit)
    return next(iter(run_generation(options, open_display)), None)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0, 2 for bad input, 1 for a failure, 130 after Ctrl-C."""
    args = parse_args(arguments)
    try:
        written = run(args)
        if written is not None:
            print(f"Saved to {written}")
    except PhonofilmError as error:
        print(f"error: {in_flags(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
