"""A clip as HTML for a notebook: it plays, and its waveform is drawn beneath it."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from phonofilm.errors import MediaError
from phonofilm.media.clip import Clip
from phonofilm.media.write import save_clip

# Larger clips would make the notebook's file unwieldy.
MAX_FRAME_BYTES = 2**30
MAX_FILE_BYTES = 20 * 2**20
COLUMNS, HEIGHT = 400, 48


def clip_html(clip: Clip) -> str:
    """The clip's size and length in words, a player with the mp4 inside, and the waveform as SVG."""
    about = f"{clip.width}x{clip.height}, {clip.num_frames} frames, {float(clip.seconds):.2f} s at {float(clip.frame_rate):g} fps"
    sound = "no sound" if clip.sampling_rate is None else f"sound at {clip.sampling_rate} Hz"
    prompt = html.escape(str(clip.metadata.get("prompt", "")))
    return f"<div>{_player(clip)}{waveform_svg(clip)}<div>{prompt}</div><small>{about}; {sound}</small></div>"


def waveform_svg(clip: Clip) -> str:
    """The loudest and quietest sample of each column, over the clip's length; nothing for a clip without sound."""
    if clip.audio is None or clip.audio.shape[1] == 0:
        return ""
    mono = clip.audio.mean(axis=0)
    columns = [part for part in np.array_split(mono, COLUMNS) if len(part)]
    middle = HEIGHT / 2
    top = [f"{x},{middle * (1 - min(1.0, float(part.max()))):.1f}" for x, part in enumerate(columns)]
    bottom = [f"{x},{middle * (1 - max(-1.0, float(part.min()))):.1f}" for x, part in enumerate(columns)]
    points = " ".join([*top, *reversed(bottom)])
    return (
        f'<svg viewBox="0 0 {COLUMNS} {HEIGHT}" width="{COLUMNS}" height="{HEIGHT}" role="img" aria-label="waveform">'
        f'<polygon points="{points}" fill="steelblue" stroke="steelblue" stroke-width="0.5"/></svg>'
    )


def _player(clip: Clip) -> str:
    if clip.frames.nbytes > MAX_FRAME_BYTES:
        return "<p>too large to play here; write it with save_clip</p>"
    try:
        with TemporaryDirectory(prefix="phonofilm-") as folder:
            content = save_clip(clip, Path(folder) / "clip.mp4").read_bytes()
    except MediaError as error:
        return f"<p>cannot be played: {html.escape(str(error))}</p>"
    if len(content) > MAX_FILE_BYTES:
        return "<p>too large to play here; write it with save_clip</p>"
    source = f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
    return f'<video controls loop width="{max(COLUMNS, min(clip.width, 960))}" src="{source}"></video><br/>'
