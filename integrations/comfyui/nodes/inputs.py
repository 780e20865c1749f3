"""The inputs that several nodes share. What is left at 0 or empty is the model's own."""

from __future__ import annotations

from comfy_api.latest import io

from phonofilm.generation.options import MAX_SEED

ModelType = io.Custom("PHONOFILM_MODEL")


def model_input() -> io.Input:
    return ModelType.Input("model")


def prompt_input(tooltip: str = "What is seen and heard.") -> io.Input:
    return io.String.Input("prompt", multiline=True, dynamic_prompts=True, tooltip=tooltip)


def seed_input() -> io.Input:
    return io.Int.Input(
        "seed", default=0, min=0, max=MAX_SEED - 1, control_after_generate=True, tooltip="One seed, one clip."
    )


def sampling_inputs() -> list[io.Input]:
    """Steps and scales, below what is made."""
    own = "0: the model's own."
    return [
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip=f"Sampling steps. {own}"),
        io.Float.Input(
            "guidance_scale",
            default=0.0,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip=f"How strongly the prompt is followed; 1 is off. {own}",
        ),
        io.Float.Input(
            "modality_scale",
            default=0.0,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip=f"How strongly picture and sound follow each other. {own}",
        ),
        io.String.Input(
            "negative_prompt", default="", multiline=True, optional=True, tooltip="Empty: the model's own."
        ),
    ]


def clip_outputs() -> list[io.Output]:
    return [
        io.Video.Output(display_name="video"),
        io.Image.Output(display_name="images"),
        io.Audio.Output(display_name="audio"),
        io.String.Output(display_name="plan"),
    ]
