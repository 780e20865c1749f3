"""The nodes that make clips: from nothing, for a given track, onto a clip, and within one."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import Input, io

from phonofilm import Clip

from .inputs import clip_outputs, model_input, prompt_input, sampling_inputs, seed_input
from .media import audio_of, clip_of, images_of, picture_of, sound_of, video_of
from .model import Model
from .run import make

CATEGORY = "Phonofilm"


class Generate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PhonofilmGenerate",
            display_name="Phonofilm Generate",
            category=CATEGORY,
            description="Makes a clip: picture and sound together, from a prompt and, if there is one, a first frame.",
            inputs=[
                model_input(),
                prompt_input('What is seen and heard. For a film of several prompts: "0-8: ...; 8-16: ...".'),
                seed_input(),
                io.Image.Input("image", optional=True, tooltip="First frame."),
                io.Image.Input("last_image", optional=True, tooltip="Last frame."),
                io.String.Input("size", default="", tooltip="640x352, 360p, 720p or auto. Empty: the model's own."),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=3600.0,
                    step=0.1,
                    tooltip="Length; what is longer than the model makes at once is made in parts. 0: the model's own.",
                ),
                io.String.Input("fps", default="", tooltip="24, 23.976, 30000/1001. Empty: the model's own."),
                *sampling_inputs(),
            ],
            outputs=clip_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        prompt: str,
        seed: int,
        size: str,
        seconds: float,
        fps: str,
        image: torch.Tensor | None = None,
        last_image: torch.Tensor | None = None,
        **sampling: Any,
    ) -> io.NodeOutput:
        pictures = {"image": picture_of(image), "last_image": picture_of(last_image)}
        return outputs(*make(model, prompt, seed, size=size, seconds=seconds, fps=fps, **pictures, **sampling))


class SoundForVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PhonofilmSoundForVideo",
            display_name="Phonofilm Sound for a Video",
            category=CATEGORY,
            description="Makes the sound of a video; its picture is kept as it is.",
            inputs=[model_input(), io.Video.Input("video"), prompt_input(), seed_input(), *sampling_inputs()],
            outputs=clip_outputs(),
        )

    @classmethod
    def execute(cls, model: Model, video: Input.Video, prompt: str, seed: int, **sampling: Any) -> io.NodeOutput:
        return outputs(*make(model, prompt, seed, video=clip_of(video), **sampling))


class PictureForSound(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PhonofilmPictureForSound",
            display_name="Phonofilm Picture for a Sound",
            category=CATEGORY,
            description="Makes the picture of a sound, which leads: a voice moves the lips. The sound is kept as it is.",
            inputs=[
                model_input(),
                io.Audio.Input("audio"),
                prompt_input(),
                seed_input(),
                io.Image.Input("image", optional=True, tooltip="First frame."),
                io.String.Input("size", default="", tooltip="640x352, 360p, 720p or auto. Empty: the model's own."),
                *sampling_inputs(),
            ],
            outputs=clip_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        audio: dict[str, Any],
        prompt: str,
        seed: int,
        size: str,
        image: torch.Tensor | None = None,
        **sampling: Any,
    ) -> io.NodeOutput:
        given = {"audio": sound_of(audio), "image": picture_of(image)}
        return outputs(*make(model, prompt, seed, size=size, **given, **sampling))


class Continue(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PhonofilmContinue",
            display_name="Phonofilm Continue",
            category=CATEGORY,
            description="Goes on from the end of a video, in picture and sound; the longer video comes out.",
            inputs=[
                model_input(),
                io.Video.Input("video", tooltip="A video with sound."),
                prompt_input(),
                seed_input(),
                io.Int.Input(
                    "overlap_frames", default=17, min=1, max=1001, step=4, tooltip="Frames that are held (1 + 4k)."
                ),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=3600.0,
                    step=0.1,
                    tooltip="How long the new part is, the held frames included. 0: the model's own.",
                ),
                *sampling_inputs(),
            ],
            outputs=clip_outputs(),
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        video: Input.Video,
        prompt: str,
        seed: int,
        overlap_frames: int,
        seconds: float,
        **sampling: Any,
    ) -> io.NodeOutput:
        given = {"continue_from": clip_of(video), "overlap_frames": overlap_frames, "seconds": seconds}
        return outputs(*make(model, prompt, seed, **given, **sampling))


class Retake(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PhonofilmRetake",
            display_name="Phonofilm Retake",
            category=CATEGORY,
            description="Makes stretches of a video anew and leaves the rest as it is.",
            inputs=[
                model_input(),
                io.Video.Input("video", tooltip="A video with sound."),
                io.String.Input("stretches", default="1:2", tooltip='Seconds: "1:2", or "1:2; 3:3.5=A dog barks".'),
                io.Combo.Input("tracks", options=["both", "video", "audio"], default="both"),
                prompt_input("What is seen and heard in stretches without a prompt of their own."),
                seed_input(),
                *sampling_inputs(),
            ],
            outputs=clip_outputs(),
        )

    @classmethod
    def execute(
        cls, model: Model, video: Input.Video, stretches: str, tracks: str, prompt: str, seed: int, **sampling: Any
    ) -> io.NodeOutput:
        given = {"video": clip_of(video), "retake": stretches, "retake_tracks": tracks}
        return outputs(*make(model, prompt or None, seed, **given, **sampling))


def outputs(clip: Clip, plan: str) -> io.NodeOutput:
    """A clip as every node gives it out."""
    return io.NodeOutput(video_of(clip), images_of(clip), audio_of(clip), plan)


NODES = [Generate, SoundForVideo, PictureForSound, Continue, Retake]
