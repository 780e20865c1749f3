"""The library's messages in the words of the command line."""

from __future__ import annotations

import pytest

from phonofilm.cli.wording import in_flags


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('use offload="layer" or offload=auto', "use --offload layer or --offload auto"),
        ("try vae_tiling=True (if it was the decoder)", "try --vae-tiling (if it was the decoder)"),
        ("a lower vram_limit, slots=1", "a lower --vram-limit, --slots 1"),
        ("give it with image=, or not", "give it with --image, or not"),
        ("then model=FOLDER", "then --model FOLDER"),
        ("or a cache with data.cache=DIR", "or a cache with data.cache=DIR"),
        ("num_frames 10 is not 1 + a multiple of 4; use 9", "num_frames 10 is not 1 + a multiple of 4; use 9"),
        ("slots= and ram_limit= would change nothing", "--slots and --ram-limit would change nothing"),
        ("LoRA v.safetensors (video=0.0,audio=0.5)", "LoRA v.safetensors (video=0.0,audio=0.5)"),
        ("use v.safetensors:video=1,audio=0.5", "use v.safetensors:video=1,audio=0.5"),
        (
            "one for each part, such as video=1,audio=0.5,bridge=0",
            "one for each part, such as video=1,audio=0.5,bridge=0",
        ),
        ("expected NAME=NUMBER, such as audio=0.5", "expected NAME=NUMBER, such as audio=0.5"),
        ("give video=clip.mp4, or audio=", "give --video clip.mp4, or --audio"),
        ("LoRA 'steps=3' is not offered", "LoRA 'steps=3' is not offered"),
        (
            "compile=True needs a C++ compiler; leave compile= out",
            "--compile needs a C++ compiler; leave --compile out",
        ),
        ("the device is cpu; use kernels=eager or auto", "the device is cpu; use --kernels eager or auto"),
        ("clips/vram_limit_test.mp4 is there", "clips/vram_limit_test.mp4 is there"),
    ],
)
def test_parameters_become_options(message: str, shown: str) -> None:
    assert in_flags(message) == shown
