"""The comparison of a LoRA as a page: verdicts, a table, pictures side by side, the clips themselves, and JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from phonofilm.evaluation.audio_distances import FLOOR_DB, mel_power
from phonofilm.evaluation.lora_compare import (
    ALL,
    BASE,
    PARTS,
    PICTURE_CHANGED,
    SOUND_CHANGED,
    SYNC_MOVED,
    Comparison,
    Variant,
    heard,
    seen,
)
from phonofilm.evaluation.plots import markdown_table
from phonofilm.files import replacing
from phonofilm.media.clip import Clip
from phonofilm.media.sheet import contact_sheet
from phonofilm.media.write import save_clip

SHEET_COLUMNS = 8
SPECTROGRAM_HEIGHT = 96
SHEET_MARGIN = 20  # what contact_sheet leaves at either side
TRACK_COLOURS = np.array([(13, 8, 33), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)


def write_page(comparison: Comparison, out: Path, title: str, about: dict[str, Any]) -> Path:
    """Write `out`/report.md with its pictures, clips and report.json; returns the page. Files of an earlier one are replaced.

    `about`: what was compared (LoRA, model, settings), as plain JSON values.
    """
    out.mkdir(parents=True, exist_ok=True)
    lines = [f"# {title}", "", *(f"* {line}" for line in lora_verdicts(comparison)), "", _table(comparison), ""]
    lines += [_explanation(), ""]
    count = len(comparison.request.seeds)
    for index, prompt in enumerate(prompt for prompt in comparison.request.prompts for _ in range(count)):
        seed = comparison.request.seeds[index % count]
        picture = out / f"clip-{index}.png"
        with replacing(picture) as temporary:
            side_by_side(comparison, index).save(temporary, format="PNG")
        lines += [f"## {prompt} (seed {seed})", "", f"![{prompt}]({picture.name})", ""]
        links = []
        for variant in comparison.variants:
            name = f"clip-{index}-{variant.name.replace(' ', '-')}.mp4"
            save_clip(variant.clips[index], out / name, overwrite=True)
            links.append(f"[{variant.name}]({name})")
        lines += [" · ".join(links), ""]
    lines += ["## Made with", "", *(f"* {key}: {value}" for key, value in about.items()), ""]
    content = {
        "about": about,
        "verdicts": lora_verdicts(comparison),
        "variants": [_figures(v) for v in comparison.variants],
    }
    for name, text in (
        ("report.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n"),
        ("report.md", "\n".join(lines)),
    ):
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return out / "report.md"


def lora_verdicts(comparison: Comparison) -> list[str]:
    """One line per question, the answer in front of the figures it comes from."""
    whole, base = comparison.variant(ALL), comparison.variant(BASE)
    lines = [
        f"picture changed: {_yes(whole.picture_changed)} (PSNR {_number(whole.psnr)} dB from the base model's)",
        f"sound changed: {_yes(whole.sound_changed)} (log-mel distance {_number(whole.mel)} dB)",
    ]
    for part in PARTS:
        name = f"{part} only"
        if part not in comparison.parts:
            lines.append(f"{part}: nothing learned, the LoRA has no trained adapters for it")
        elif len(comparison.parts) > 1:
            alone = comparison.variant(name)
            lines.append(
                f"{name}: picture changed: {_yes(alone.picture_changed)} ({_number(alone.psnr)} dB), "
                f"sound changed: {_yes(alone.sound_changed)} ({_number(alone.mel)} dB)"
            )
    return [*lines, _sync_verdict(base, whole)]


def side_by_side(comparison: Comparison, index: int) -> Image.Image:
    """Clip `index` of every variant, one below the other: frames, waveform with what is seen and heard, spectrogram."""
    rows = []
    loudest = max(float(_mel(variant.clips[index]).max()) for variant in comparison.variants)
    for variant in comparison.variants:
        clip, far = variant.clips[index], variant.distances[index]
        title = f"{variant.name}: " + (
            "the base model" if variant.name == BASE else f"PSNR {_number(far.psnr)} dB, log-mel {_number(far.mel)} dB"
        )
        sheet = contact_sheet(
            clip, columns=SHEET_COLUMNS, rows=1, title=title, events={"seen": seen(clip), "heard": heard(clip)}
        )
        rows += [sheet, _spectrogram(clip, loudest, sheet.width)]
    page = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "#14161b")
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return page


def _spectrogram(clip: Clip, loudest: float, width: int) -> Image.Image:
    """Mel bands over time, low ones at the bottom; black is 60 dB under the loudest cell of all variants."""
    level = 10 * np.log10(np.maximum(_mel(clip), 1e-12) / max(loudest, 1e-12))
    share = np.clip(1 - level / FLOOR_DB, 0, 1)[::-1]
    steps = np.linspace(0, 1, len(TRACK_COLOURS))
    pixels = np.stack([np.interp(share, steps, TRACK_COLOURS[:, channel]) for channel in range(3)], -1)
    size = (width - 2 * SHEET_MARGIN, SPECTROGRAM_HEIGHT)
    strip = Image.new("RGB", (width, SPECTROGRAM_HEIGHT + SHEET_MARGIN), "#14161b")
    strip.paste(Image.fromarray(pixels.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR), (SHEET_MARGIN, 0))
    return strip


def _mel(clip: Clip) -> np.ndarray:
    """[bands, frames]: power of the picture's length of sound."""
    trimmed = clip.trimmed_to_picture()
    assert trimmed.audio is not None
    assert trimmed.sampling_rate is not None
    mono = torch.from_numpy(np.ascontiguousarray(trimmed.audio.mean(0)))
    power: np.ndarray = mel_power(mono, trimmed.sampling_rate).numpy()
    return power


def _table(comparison: Comparison) -> str:
    rows = [
        [
            variant.name,
            _number(variant.psnr),
            _number(variant.mel),
            str(variant.sync.events),
            _share(variant.sync.within),
            _number(variant.sync.offset_ms),
        ]
        for variant in comparison.variants
    ]
    return markdown_table(["LoRA", "PSNR, dB", "log-mel, dB", "events", "in sync", "lag, ms"], rows)


def _explanation() -> str:
    return (
        "PSNR and log-mel distance are from the base model's clip with the same prompt and start noise (median over clips). "
        f"A picture below {PICTURE_CHANGED:g} dB counts as changed, a sound above {SOUND_CHANGED:g} dB. In sync: the share of "
        "visible events with a sound within one frame, both found without knowing the prompt; lag: the median, positive "
        "when the sound is late. That something changed does not say that it is what you wanted: look and listen."
    )


def _sync_verdict(base: Variant, whole: Variant) -> str:
    before, after = base.sync.within, whole.sync.within
    if math.isnan(before) or math.isnan(after):
        return "sync: unknown, nothing sudden is seen"
    moved = after - before
    word = "as before" if abs(moved) <= SYNC_MOVED else "better" if moved > 0 else "worse"
    return f"sync: {word} ({_share(after)} of {whole.sync.events} events, base {_share(before)} of {base.sync.events})"


def _figures(variant: Variant) -> dict[str, Any]:
    """For JSON, which has no infinity and no NaN: null stands for both."""
    content = {
        "name": variant.name,
        "psnr_db": variant.psnr,
        "log_mel_db": variant.mel,
        "picture_changed": variant.picture_changed,
        "sound_changed": variant.sound_changed,
        "clips": [asdict(distance) for distance in variant.distances],
        "sync": asdict(variant.sync),
    }
    found: dict[str, Any] = json.loads(json.dumps(content), parse_constant=lambda _: None)
    return found


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "same" if math.isinf(value) else f"{value:.1f}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f} %"
