"""Whether the file itself is in order: when its tracks start and end, frozen frames, silence, clipping. Exact, no model."""

from __future__ import annotations

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.rows import Row, measured
from phonofilm.media.clip_checks import check_container


class Container(Metric):
    """`check_container` as figures. Both profiles measure the same; the original has nothing like it."""

    name = "container"
    title = "Container checks"
    version = 2
    figures = (
        Figure("problems", "Problems per clip", better="lower"),
        Figure("start_difference_ms", "Sound starts after the picture", "ms"),
        Figure("length_difference_ms", "Sound longer than the picture", "ms"),
        Figure("frozen_ratio", "Frozen frames", better="lower"),
        Figure("silence_ratio", "Silence"),
        Figure("clipped_ratio", "Clipped samples", better="lower"),
    )
    source = "timestamps and samples of the file"

    def measure(self, clip: ClipFacts) -> Row:
        report = check_container(clip.path, clip.decode)
        problems = report.problems()
        values = {"problems": float(len(problems))}
        detail: dict[str, object] = {"problems": problems, "container": report.format}
        if report.picture is not None:
            picture = report.picture
            values["frozen_ratio"] = picture.frozen_ratio
            detail["picture"] = {
                "codec": picture.codec,
                "size": [picture.width, picture.height],
                "frames": picture.frames,
                "frame_rate": float(picture.frame_rate),
                "seconds": float(picture.duration),
            }
        if report.sound is not None:
            sound = report.sound
            values["silence_ratio"], values["clipped_ratio"] = sound.silence_ratio, sound.clipped_ratio
            detail["sound"] = {
                "codec": sound.codec,
                "sampling_rate": sound.sampling_rate,
                "channels": sound.channels,
                "seconds": float(sound.duration),
            }
        for name, difference in (("start", report.start_difference), ("length", report.length_difference)):
            if difference is not None:
                values[f"{name}_difference_ms"] = float(difference) * 1000
        return measured(values, detail)
