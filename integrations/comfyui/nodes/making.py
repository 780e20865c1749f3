"""The nodes that make clips: from nothing, for a given track, onto a clip, and within one; and the pictures that a clip shows."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import Input, io

from phonofilm.errors import InputError

from . import inputs
from .inputs import CATEGORY, KeyframesType, clip_schema
from .media import clip_of, picture_of, sound_of, sounding_clip_of
from .model import Model
from .run import make

Keyframes = dict[float, torch.Tensor]  # by seconds, IMAGEs


class Generate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return clip_schema(
            "PhonofilmGenerate",
            "Phonofilm Generate",
            "Makes a clip: picture and sound together, from a prompt and, if there is one, a first frame.",
            given=[
                inputs.picture(),
                inputs.picture("last_image", "Last frame."),
                inputs.keyframes(),
                io.Audio.Input("voice", optional=True, tooltip="A voice that goes on in the clip. An experiment."),
            ],
            settings=[inputs.size(), inputs.seconds(), inputs.fps()],
            prompt='What is seen and heard. For a film of several prompts: "0-8: ...; 8-16: ...".',
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        prompt: str,
        seed: int,
        image: torch.Tensor | None = None,
        last_image: torch.Tensor | None = None,
        keyframes: Keyframes | None = None,
        voice: dict[str, Any] | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        given = {
            "image": picture_of(image),
            "last_image": picture_of(last_image),
            "keyframes": _pictures_of(keyframes),
            "voice": sound_of(voice),
        }
        return make(model, prompt, seed, given | settings)


class SoundForVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return clip_schema(
            "PhonofilmSoundForVideo",
            "Phonofilm Sound for a Video",
            "Makes the sound of a video; its picture is kept as it is.",
            given=[inputs.video("A video, with sound or without.")],
        )

    @classmethod
    def execute(cls, model: Model, prompt: str, seed: int, video: Input.Video, **settings: Any) -> io.NodeOutput:
        return make(model, prompt, seed, {"video": clip_of(video)} | settings)


class PictureForSound(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return clip_schema(
            "PhonofilmPictureForSound",
            "Phonofilm Picture for a Sound",
            "Makes the picture of a sound, which leads: a voice moves the lips. The sound is kept as it is.",
            given=[io.Audio.Input("audio"), inputs.picture(), inputs.keyframes()],
            settings=[inputs.size()],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        prompt: str,
        seed: int,
        audio: dict[str, Any] | None,
        image: torch.Tensor | None = None,
        keyframes: Keyframes | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        if audio is None:  # as ComfyUI has the sound of a video that has none
            raise InputError("the AUDIO is none: the node that it comes from gave out no sound")
        given = {"audio": sound_of(audio), "image": picture_of(image), "keyframes": _pictures_of(keyframes)}
        return make(model, prompt, seed, given | settings)


class Continue(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return clip_schema(
            "PhonofilmContinue",
            "Phonofilm Continue",
            "Goes on from the end of a video, in picture and sound; the longer video comes out.",
            given=[inputs.video()],
            settings=[
                io.Int.Input(
                    "overlap_frames", default=17, min=1, max=1001, step=4, tooltip="Frames that are held (1 + 4k)."
                ),
                inputs.seconds("How long the new part is, the held frames included."),
            ],
        )

    @classmethod
    def execute(cls, model: Model, prompt: str, seed: int, video: Input.Video, **settings: Any) -> io.NodeOutput:
        return make(model, prompt, seed, {"continue_from": sounding_clip_of(video)} | settings)


class Retake(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return clip_schema(
            "PhonofilmRetake",
            "Phonofilm Retake",
            "Makes stretches of a video anew and leaves the rest as it is.",
            given=[
                inputs.video(),
                io.String.Input("stretches", default="1:2", tooltip='Seconds: "1:2", or "1:2; 3:3.5=A dog barks".'),
                io.Combo.Input("tracks", options=["both", "video", "audio"], default="both"),
            ],
            prompt="What is seen and heard in stretches without a prompt of their own.",
        )

    @classmethod
    def execute(
        cls, model: Model, prompt: str, seed: int, video: Input.Video, stretches: str, tracks: str, **settings: Any
    ) -> io.NodeOutput:
        given = {"video": sounding_clip_of(video), "retake": stretches, "retake_tracks": tracks}
        return make(model, prompt or None, seed, given | settings)


class Keyframe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PhonofilmKeyframe",
            display_name="Phonofilm Keyframe",
            category=CATEGORY,
            description="A picture that a clip shows at a time; connect one to the next for several.",
            inputs=[io.Image.Input("image"), inputs.time(), inputs.keyframes()],
            outputs=[KeyframesType.Output(display_name="keyframes")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, seconds: float, keyframes: Keyframes | None = None) -> io.NodeOutput:
        return io.NodeOutput({**(keyframes or {}), seconds: image})


def _pictures_of(keyframes: Keyframes | None) -> dict[float, Any] | None:
    return None if keyframes is None else {seconds: picture_of(image) for seconds, image in keyframes.items()}


NODES = [Generate, SoundForVideo, PictureForSound, Continue, Retake, Keyframe]
