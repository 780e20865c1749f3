"""What is sampled while the embedded model's towers train: one clip of every scene, from held-out captions and frames."""

from __future__ import annotations

from PIL import Image

from phonofilm.nano.world import HELD_OUT_SEED, SCENES, make_clip
from phonofilm.training.loop.previews import Preview


def held_out_previews(size: int, num_frames: int) -> tuple[Preview, ...]:
    """One preview per scene: a caption and a first frame that training never sees."""
    truths = [
        make_clip(HELD_OUT_SEED + index, scene=scene, size=size, num_frames=num_frames)
        for index, scene in enumerate(SCENES)
    ]
    return tuple(
        Preview(scene, truth.caption, Image.fromarray(truth.frames[0]), seed=index)
        for index, (scene, truth) in enumerate(zip(SCENES, truths, strict=True))
    )
