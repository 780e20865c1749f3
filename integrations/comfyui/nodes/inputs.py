"""Every input that a node of the pack has, defined once, and the schema that all nodes which make a clip share.

What is left at 0 or empty is the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from phonofilm.generation.options import MAX_SEED, MOST_SECONDS

CATEGORY = "Phonofilm"
OWN = "0: the model's own."
FRAME_INPUT = "First frame."
SECONDS = "Length; what is longer than the model makes at once is made in parts."
ModelType = io.Custom("PHONOFILM_MODEL")
KeyframesType = io.Custom("PHONOFILM_KEYFRAMES")


def clip_schema(
    node_id: str,
    name: str,
    description: str,
    given: Sequence[io.Input],
    settings: Sequence[io.Input] = (),
    prompt: str = "What is seen and heard.",
) -> io.Schema:
    """The schema of a node that makes a clip: the model, what is `given`, prompt and seed, the node's own `settings`, and how
    to sample; picture, sound and plan come out. `prompt`: what its prompt says."""
    return io.Schema(
        node_id=node_id,
        display_name=name,
        category=CATEGORY,
        description=description,
        inputs=[
            model(),
            *given,
            io.String.Input("prompt", multiline=True, dynamic_prompts=True, tooltip=prompt),
            io.Int.Input(
                "seed", default=0, min=0, max=MAX_SEED - 1, control_after_generate=True, tooltip="One seed, one clip."
            ),
            *settings,
            io.Int.Input("steps", default=0, min=0, max=1000, tooltip=f"Sampling steps. {OWN}"),
            _scale("guidance_scale", "How strongly the prompt is followed; 1 is off."),
            _scale("modality_scale", "How strongly picture and sound follow each other."),
            io.String.Input(
                "negative_prompt", default="", multiline=True, optional=True, tooltip="Empty: the model's own."
            ),
        ],
        outputs=[
            io.Video.Output(display_name="video"),
            io.Image.Output(display_name="images"),
            io.Audio.Output(display_name="audio"),
            io.String.Output(display_name="plan"),
        ],
    )


def model() -> io.Input:
    return ModelType.Input("model")


def video(tooltip: str = "A video with sound.") -> io.Input:
    return io.Video.Input("video", tooltip=tooltip)


def picture(name: str = "image", tooltip: str = FRAME_INPUT) -> io.Input:
    return io.Image.Input(name, optional=True, tooltip=tooltip)


def keyframes() -> io.Input:
    return KeyframesType.Input("keyframes", optional=True, tooltip="Pictures that are shown at given times.")


def size() -> io.Input:
    return io.String.Input("size", default="", tooltip="640x352, 360p, 720p or auto. Empty: the model's own.")


def seconds(tooltip: str = SECONDS) -> io.Input:
    return _seconds("seconds", f"{tooltip} {OWN}")


def time() -> io.Input:
    return _seconds("seconds", "When the picture is shown, in seconds from the clip's beginning.")


def fps() -> io.Input:
    return io.String.Input("fps", default="", tooltip="24, 23.976, 30000/1001. Empty: the model's own.")


def strength(name: str) -> io.Input:
    return io.Float.Input(name, default=1.0, min=-10.0, max=10.0, step=0.05)


def _seconds(name: str, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=0.0, min=0.0, max=MOST_SECONDS, step=0.01, tooltip=tooltip)


def _scale(name: str, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=0.0, min=0.0, max=30.0, step=0.1, tooltip=f"{tooltip} {OWN}")
