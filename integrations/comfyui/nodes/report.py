"""What can be said of a clip from its frames and its sound alone."""

from __future__ import annotations

import numpy as np

from phonofilm import Clip
from phonofilm.media.onsets import onset_times

QUIET = -60.0  # dB of full scale


def examine(clip: Clip) -> str:
    """A line for each thing that was measured."""
    frames = clip.frames.astype(np.float32)
    changes = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3)) if clip.num_frames > 1 else np.zeros(1)
    lines = [
        f"picture: {clip.width}x{clip.height}, {clip.num_frames} frames at {float(clip.frame_rate):.6g} per second, "
        f"{float(clip.seconds):.3f} s",
        f"brightness: {frames.mean() / 255:.2f} on average, {frames.mean((1, 2, 3)).min() / 255:.2f} to "
        f"{frames.mean((1, 2, 3)).max() / 255:.2f}",
        f"frames like the one before: {(changes == 0).mean():.0%}",
    ]
    if clip.audio is None or clip.sampling_rate is None:
        return "\n".join([*lines, "sound: none"])
    mono, peak = clip.audio.mean(0), float(np.abs(clip.audio).max(initial=0.0))
    length = clip.audio.shape[1] / clip.sampling_rate
    onsets = onset_times(clip.audio, clip.sampling_rate)
    lines += [
        f"sound: {(count := clip.audio.shape[0])} channel{'s' * (count != 1)} at {clip.sampling_rate} Hz, {length:.3f} s, "
        f"{(length - float(clip.seconds)) * 1000:+.0f} ms against the picture",
        f"level: {_decibels(float(np.sqrt((mono**2).mean()))):.1f} dB on average, peak {_decibels(peak):.1f} dB"
        + (", clipped" if peak >= 1 else ""),
        f"sounds that begin: {len(onsets)}"
        + (f", at {', '.join(f'{t:.2f}' for t in onsets[:20])} s" if len(onsets) else ""),
    ]
    return "\n".join(lines)


def _decibels(amplitude: float) -> float:
    return max(QUIET, 20 * float(np.log10(max(amplitude, 1e-9))))
