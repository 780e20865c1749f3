"""The readers that are fuzzed: for each, sound files to begin with, and what reads a broken one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from tests.conftest import GOLDENS, writable_copy
from tests.fuzz.mutations import broken_bytes, broken_value
from tests.media_makers import flash_and_beep
from tests.promises.hostile_media import wav

CHECKPOINT = GOLDENS / "basic" / "checkpoint"


@dataclass(frozen=True)
class Target:
    """`make(folder, rng)` writes one broken case and returns its path; `read(path)` may raise a PhonofilmError only."""

    make: Callable[[Path, random.Random], Path]
    read: Callable[[Path], Any]


def one_line(error: Exception) -> None:
    """Fails unless the message fits one line."""
    assert "\n" not in str(error).strip(), "the message has several lines"
    assert len(str(error)) < 3000, "the message is too long"


def of_bytes(seeds: Callable[[Path], list[Path]], *readers: Callable[[Path], Any]) -> Target:
    kept: dict[Path, bytes] = {}

    def make(folder: Path, rng: random.Random) -> Path:
        if not kept:
            begin = folder / "seeds"
            begin.mkdir(exist_ok=True)
            kept.update({path: path.read_bytes() for path in seeds(begin)})
        source, data = rng.choice(sorted(kept.items()))
        case = folder / f"case{source.suffix}"
        case.write_bytes(broken_bytes(data, rng))
        return case

    def read(path: Path) -> None:
        from phonofilm.errors import PhonofilmError

        for reader in readers:
            try:
                reader(path)
            except PhonofilmError as error:
                one_line(error)

    return Target(make, read)


def images(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8))
    kinds = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tiff": "TIFF", ".gif": "GIF"}
    for suffix, kind in kinds.items():
        picture.save(folder / f"rgb{suffix}", kind)
        picture.convert("P" if kind in ("GIF", "PNG") else "L").save(folder / f"other{suffix}", kind)
    picture.convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(rng.integers(0, 65535, (24, 32)).astype(np.uint16)).save(folder / "grey.png")
    picture.save(folder / "packed.tiff", compression="tiff_lzw")
    return sorted(folder.iterdir())


def sounds(folder: Path) -> list[Path]:
    from tests.media_makers import write_sound

    wave = np.sin(np.arange(4800) / 20).astype(np.float32)[None] * 0.5
    wav(folder / "float.wav", wave)
    whole = (wave * 2**15).astype(np.int16)
    write_sound(folder / "whole.wav", whole, 48000, "pcm_s16le", "s16")
    write_sound(folder / "a.flac", whole, 48000, "flac", "s16")
    write_sound(folder / "a.mka", whole, 48000, "pcm_s16le", "s16")
    for suffix, codec in ((".m4a", "aac"), (".ogg", "libopus"), (".mp3", "libmp3lame")):
        try:
            frame = wave[:, :960] if codec == "libopus" else wave[:, :1024]
            write_sound(folder / f"a{suffix}", frame, 48000, codec, "flt" if codec == "libopus" else "fltp")
        except (av.error.FFmpegError, ValueError):  # an encoder that this build of libav does not have
            (folder / f"a{suffix}").unlink(missing_ok=True)
    return sorted(folder.iterdir())


def videos(folder: Path) -> list[Path]:
    from tests.promises.hostile_media import picture_at

    from phonofilm.media import save_clip

    clip = flash_and_beep(num_frames=9, at=(4,), side=32)
    for suffix in (".mp4", ".webm", ".gif"):
        save_clip(clip, folder / f"a{suffix}")
    for suffix in (".mkv", ".avi", ".ts", ".mov", ".flv"):
        picture_at(folder / f"b{suffix}", [i / 24 for i in range(9)], side=32)
    return sorted(folder.iterdir())


def tensors(folder: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    state = {"a": torch.ones(4, 3), "b.weight": torch.zeros(2, dtype=torch.bfloat16), "c": torch.zeros(0)}
    save_file(state, folder / "a.safetensors", {"format": "pt"})
    return [folder / "a.safetensors"]


def loras(folder: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    layer = "video_dit.blocks.0.self_attn.q"
    state = {f"{layer}.lora_A.weight": torch.randn(4, 16), f"{layer}.lora_B.weight": torch.randn(16, 4)}
    header = {
        "format": "phonofilm-lora",
        "format_version": "1",
        "rank": '{"video_dit": 4}',
        "alpha": '{"video_dit": 4}',
    }
    save_file(state, folder / "ours.safetensors", header)
    save_file(state, folder / "plain.safetensors")
    torch.save(state, folder / "plain.pt")
    torch.save({"lora_state_dict": state, "rank": 4, "alpha": 8.0}, folder / "low.pt")
    return sorted(folder.iterdir())


def manifests(folder: Path) -> list[Path]:
    rows = [{"video_path": "a.mp4", "caption": "x, y", "start": 0.5, "end": "2", "repeats": 2}, {"file": "a.mp4"}]
    (folder / "m.json").write_text(json.dumps(rows))
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "m.csv").write_text('file,caption,start,end,repeats\na.mp4,"x, y",0.5,2,2\n')
    return sorted(folder.iterdir())


def read_a_manifest(path: Path) -> Any:
    from phonofilm.data.manifest import read_manifest

    (path.parent / "a.mp4").touch()
    return read_manifest(path)


def read_a_header(path: Path) -> Any:
    from phonofilm.models.tensor_header import read_declared

    return read_declared(path)


def read_a_lora(path: Path) -> Any:
    from phonofilm.lora.reading import read_lora

    return read_lora(path)


def broken_checkpoint(folder: Path, rng: random.Random) -> Path:
    root = folder / "checkpoint"
    if not root.exists():
        writable_copy(CHECKPOINT, root)
    for file in CHECKPOINT.rglob("*.json"):
        shutil.copy(file, root / file.relative_to(CHECKPOINT))
    file = rng.choice(sorted(root.rglob("*.json")))
    if rng.random() < 0.2:
        file.write_bytes(broken_bytes(file.read_bytes(), rng))
    else:
        file.write_text(json.dumps(broken_value(json.loads(file.read_text()), rng)))
    return root


def read_a_checkpoint(root: Path) -> None:
    from phonofilm.errors import PhonofilmError
    from phonofilm.generation.checkpoint import Checkpoint
    from phonofilm.models.layout import read_layout

    try:
        checkpoint = Checkpoint(str(root), read_layout(root))
        _ = (
            checkpoint.defaults,
            checkpoint.facts,
            checkpoint.geometry,
            checkpoint.tokenizer,
            checkpoint.fingerprint,
        )
    except PhonofilmError as error:
        one_line(error)


def broken_settings(folder: Path, rng: random.Random) -> Path:
    settings = {
        "prompt": "a man speaks",
        "seed": 1,
        "size": "32x32",
        "num_frames": 9,
        "fps": "24",
        "steps": 2,
        "guidance_scale": 5.0,
        "modality_scale": "1.0",
        "guidance_interval": "0:1",
        "retake": "0.1:0.2",
        "video_shift": 5.0,
        "inputs": [{"option": "image", "path": "first.png", "sha256": "0" * 64}],
        "loras": [{"path": "a.safetensors", "sha256": "0" * 64, "strength": "0.8"}],
        "model": "nano",
        "fingerprint": "f" * 32,
        "dtype": "float32",
    }
    case = folder / "case.json"
    case.write_text(json.dumps(broken_value(settings, rng)))
    return case


def read_settings(path: Path) -> None:
    from phonofilm.errors import PhonofilmError
    from phonofilm.generation.options import ClipOptions, options_from_json
    from phonofilm.generation.provenance import read_provenance
    from phonofilm.media.metadata import from_text, to_text

    settings = from_text(path.read_text())
    if settings is None:
        return
    to_text(settings)
    for read in (
        lambda: read_provenance(settings, path.with_name("clip.mp4"), ClipOptions()),
        lambda: options_from_json(settings, "line 1"),
    ):
        try:
            read()
        except PhonofilmError as error:
            one_line(error)


def all_targets() -> dict[str, Target]:
    from phonofilm.media import check_container, load_image, read_audio, read_clip, read_metadata

    return {
        "images": of_bytes(images, load_image, read_metadata),
        "audio": of_bytes(sounds, read_audio, check_container),
        "video": of_bytes(videos, read_clip, check_container, read_metadata),
        "safetensors": of_bytes(tensors, read_a_header),
        "checkpoints": Target(broken_checkpoint, read_a_checkpoint),
        "metadata": Target(broken_settings, read_settings),
        "loras": of_bytes(loras, read_a_lora),
        "manifests": of_bytes(manifests, read_a_manifest),
    }
