"""The fields of a request for a clip, as clients write them: OpenAI's, SGLang's, and ours. Their meaning is in translate.py."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from phonofilm.serving.settings import RequestLimits
from phonofilm.untrusted import shown

# Clients send these as a matter of course; here they change nothing, and the answer's `warnings` say so.
IGNORED = {
    "user": "it is not used",
    "metadata": "it is not kept",
    "quality": "a clip has one quality",
    "style": "the prompt says it",
    "response_format": "clips are fetched from /content",
    "output_quality": "files are written at the command line's default quality",
    "output_compression": "files are written at the command line's default quality",
    "max_sequence_length": "the checkpoint decides how much text is read",
    "generate_audio": "picture and sound are always made together",
    "generate_sound": "picture and sound are always made together",
    "save_output": "clips are always kept until they expire",
    "return_frames": "clips are fetched from /content",
    "service_tier": "use priority",
}
# These would change the clip if they were obeyed, so that leaving them out without a word would be wrong.
REFUSED = {
    "output_path": "paths are not taken over HTTP; fetch the clip from /content",
    "video_path": "paths are not taken over HTTP; upload the clip as `video`",
    "diffusers_kwargs": "arguments are not passed through; use the fields of this API",
    "guidance_scale_2": "both experts of MOVA share one guidance; use guidance_scale",
    "true_cfg_scale": "use guidance_scale",
    "image_path": "paths are not taken over HTTP; upload the picture as `input_reference`",
    "profile": "profiling is not offered over HTTP",
    "num_profiled_timesteps": "profiling is not offered over HTTP",
    "profile_all_stages": "profiling is not offered over HTTP",
}

# What people write who know the command line, or another API, and what it is called here.
MEANT = {
    "steps": "num_inference_steps",
    "num_clips": "n",
    "image": "input_reference",
    "first_frame": "input_reference",
    "last_image": "last_frame",
    "lora": "loras",
    "keyframe": "keyframes",
    "duration": "seconds",
    "resolution": "size",
    "frame_rate": "fps",
    "continue_from": "video, with POST /v1/videos/extensions",
    "loras": "lora_nickname",
}
# How a LoRA is named, and what the fields of POST /v1/set_lora may hold.
LORA_FORM = '"NAME", "NAME:0.8" or "NAME:video=1,audio=0"'
SET_LORA_FORMS = {
    "lora_nickname": f"{LORA_FORM}, or a list of those",
    "lora_path": "the same name as lora_nickname, or a list of those, or nothing; paths are not taken over HTTP",
    "target": '"all", or nothing; a strength for each part belongs to the name: {"lora_nickname": "NAME:video=1,audio=0"}',
    "strength": "a number, or a list with one for each name",
}

_UNDERSCORES = re.compile(r"[\s\d.eE+-]*_[\s\d._eE+-]*", re.ASCII)


def _without_nul(value: str) -> str:
    """PostgreSQL keeps no NUL in a text, and nobody says one."""
    if "\0" in value:
        raise ValueError("it holds a NUL character")
    return value


Text = Annotated[str, Field(max_length=100_000), AfterValidator(_without_nul)]
Prompt = Annotated[str, Field(min_length=1, max_length=100_000), AfterValidator(_without_nul)]
Reference = str | dict[str, Any]
YES_OR_NO = ("enhance_prompt", "draw_first_frame")


def no_underscores(value: Any) -> Any:
    """The value. Raises ValueError for a number as Python's programs are written, 1_000, which pydantic would take."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str) and _UNDERSCORES.fullmatch(one):
            raise ValueError(f"expected a number; {shown(repr(one))} has underscores")
    return value


NO_UNDERSCORES = BeforeValidator(no_underscores)


def _holds_numbers(kind: Any) -> bool:
    return kind in (int, float) or any(map(_holds_numbers, get_args(kind)))


class _Plain(BaseModel):
    """Fields in which true and false, and digits with underscores, stand for no number."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        several = value if isinstance(value, list) else [value]
        if info.field_name not in YES_OR_NO and any(isinstance(one, bool) for one in several):
            raise ValueError("true and false are no values here; a number or a text is expected")
        field = cls.model_fields[info.field_name or ""]
        return no_underscores(value) if _holds_numbers(field.annotation) else value

    @field_validator("loras", mode="before", check_fields=False)
    @classmethod
    def _loras_are_texts(cls, value: Any) -> Any:
        several = value if isinstance(value, list) else [value]
        if value is not None and not all(isinstance(one, str) for one in several):
            raise ValueError(f"expected {LORA_FORM}, or a list of those")
        return value


class VideoFields(_Plain):
    """Every field of POST /v1/videos but the files of a multipart request. Numbers may come as text."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: Annotated[Prompt, Field(description="What is seen and heard.", examples=["A red ball bounces."])]
    model: Annotated[str | None, Field(description="One of GET /v1/models.", examples=["nano"])] = None
    input_reference: Annotated[
        Reference | None, Field(description="First frame: a data URL, or an http(s) URL where the server allows it.")
    ] = None
    reference_url: Annotated[str | None, Field(description="First frame, by URL.")] = None
    last_frame: Annotated[Reference | None, Field(description="Last frame, as input_reference.")] = None
    video: Annotated[
        Reference | None, Field(description='A clip that wants sound: {"id": "video_..."}, or a data URL.')
    ] = None
    video_url: Annotated[str | None, Field(description="The same, by URL.")] = None
    audio: Annotated[Reference | None, Field(description="A sound that wants a picture: a data URL.")] = None
    voice: Annotated[
        Reference | None, Field(description="A voice that the clip goes on in: a data URL, or the id of a clip.")
    ] = None
    keyframes: Annotated[
        dict[str, Reference] | None,
        Field(description="Pictures by the second at which they are shown; in a form, files named keyframes[3.5]."),
    ] = None
    seconds: Annotated[float | None, Field(gt=0, description="Length, to the nearest possible.", examples=[2])] = None
    part_seconds: Annotated[float | None, Field(gt=0, description="Length of the parts of a longer film.")] = None
    size: Annotated[str | None, Field(description="WIDTHxHEIGHT.", examples=["64x64"], max_length=20)] = None
    width: Annotated[int | None, Field(gt=0)] = None
    height: Annotated[int | None, Field(gt=0)] = None
    fps: Annotated[float | str | None, Field(description="24, 23.976 or 30000/1001.", examples=[24])] = None
    num_frames: Annotated[int | None, Field(gt=0, description="1 + 4k; wins over seconds.")] = None
    overlap_frames: Annotated[
        int | None, Field(gt=0, description="Frames of a clip (or of a film's last part) that are held going on.")
    ] = None
    seed: Annotated[int | list[int] | None, Field(description="One, or one for each clip.", examples=[1])] = None
    num_inference_steps: Annotated[
        int | None, Field(gt=0, description=f"At most {RequestLimits.max_steps}.", examples=[4])
    ] = None
    guidance_scale: float | None = None
    audio_guidance_scale: float | None = None
    modality_scale: Annotated[
        float | list[float] | str | None, Field(description="How strongly picture and sound follow each other.")
    ] = None
    guidance_interval: Annotated[list[float] | str | None, Field(description="START:END of the steps.")] = None
    negative_prompt: Text | None = None
    solver: str | None = None
    cache: str | None = None
    flow_shift: Annotated[float | None, Field(description="video_shift and audio_shift at once.")] = None
    video_shift: float | None = None
    audio_shift: float | None = None
    boundary_ratio: float | None = None
    image_fit: Annotated[str | None, Field(description="crop or letterbox.")] = None
    n: Annotated[
        int | None, Field(ge=1, description=f"Clips, with consecutive seeds; at most {RequestLimits.max_clips}.")
    ] = None
    num_outputs_per_prompt: Annotated[int | None, Field(ge=1, description="The same as n.")] = None
    loras: Annotated[
        list[str] | str | None,
        Field(
            description='Names of GET /v1/list_loras, as "name" or "name:0.8"; "none" is no LoRA at all, also not the '
            "few-step student that a model may have of its own."
        ),
    ] = None
    enhance_prompt: bool | None = None
    draw_first_frame: Annotated[
        bool | None, Field(description="Draw the first frame from the prompt, where the server has a model for it.")
    ] = None
    priority: Annotated[int, Field(ge=-100, le=100, description="Lower runs first.")] = 0
    callback_url: Annotated[str | None, Field(max_length=4096)] = None


class SyncFields(VideoFields):
    """POST /v1/videos/sync: one clip, whose file is the answer."""

    n: Annotated[int | None, Field(ge=1, description="1.", json_schema_extra={"maximum": 1})] = None
    num_outputs_per_prompt: Annotated[
        int | None, Field(ge=1, description="The same as n.", json_schema_extra={"maximum": 1})
    ] = None
    seed: Annotated[int | list[int] | None, Field(json_schema_extra={"maxItems": 1})] = None

    @field_validator("n", "num_outputs_per_prompt", "seed")
    @classmethod
    def _is_one_clip(cls, value: int | list[int] | None, info: ValidationInfo) -> int | list[int] | None:
        count = len(value) if isinstance(value, list) else 1 if info.field_name == "seed" else value
        if count is not None and count > 1:
            raise ValueError("this route answers with the file of one clip; for several use POST /v1/videos")
        return value


class EditFields(VideoFields):
    """POST /v1/videos/edits: a stretch of a clip made anew."""

    start: Annotated[float | None, Field(ge=0, description="Seconds where the stretch begins.", examples=[0.5])] = None
    end: Annotated[float | None, Field(gt=0, description="Seconds where it ends.", examples=[1.5])] = None
    retake: Annotated[list[float] | str | None, Field(description="START:END, instead of start and end.")] = None
    retake_tracks: Annotated[str | None, Field(description="both, video or audio.")] = None


class ExtensionFields(VideoFields):
    """POST /v1/videos/extensions: go on from a clip."""

    continue_at: Annotated[
        float | None, Field(gt=0, description="Seconds: go on from this moment of the clip instead of its end.")
    ] = None


class RemixFields(BaseModel):
    """POST /v1/videos/{id}/remix."""

    model_config = ConfigDict(extra="forbid")

    prompt: Prompt


class ChangeFields(_Plain):
    """PATCH /v1/videos/{id}: what can be changed while a job waits."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: Prompt | None = None
    negative_prompt: Text | None = None
    seconds: Annotated[float | None, Field(gt=0)] = None
    size: Annotated[str | None, Field(max_length=20)] = None
    num_frames: Annotated[int | None, Field(gt=0)] = None
    seed: int | None = None
    num_inference_steps: Annotated[int | None, Field(gt=0)] = None
    guidance_scale: float | None = None
    modality_scale: float | str | None = None
    audio_guidance_scale: float | None = None
    guidance_interval: Annotated[list[float] | str | None, Field(description="START:END of the steps.")] = None
    fps: float | str | None = None
    part_seconds: Annotated[float | None, Field(gt=0)] = None
    overlap_frames: Annotated[int | None, Field(gt=0)] = None
    solver: str | None = None
    cache: str | None = None
    video_shift: float | None = None
    audio_shift: float | None = None
    boundary_ratio: float | None = None
    image_fit: str | None = None
    loras: list[str] | str | None = None
    retake: Annotated[list[float] | str | None, Field(description="START:END, of a job that makes a stretch anew.")] = (
        None
    )
    retake_tracks: str | None = None
    priority: Annotated[int | None, Field(ge=-100, le=100)] = None


class MoveFields(BaseModel):
    """POST /v1/videos/{id}/move."""

    model_config = ConfigDict(extra="forbid")

    index: Annotated[
        int, Field(strict=True, ge=0, le=100_000, description="The place in GET /v1/queue; 0 is next.", examples=[0])
    ]


class LoraFields(BaseModel):
    """POST /v1/set_lora, in SGLang's words."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    lora_nickname: Annotated[str | list[str], Field(description="Names of GET /v1/list_loras; as in `loras`.")]
    lora_path: Annotated[str | list[str] | None, Field(description="The same name, or left out; no path.")] = None
    target: Annotated[str | list[str] | None, Field(description="all, which is the default.")] = None
    strength: Annotated[float | list[float] | None, Field(description="1 by default.")] = None

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_object(cls, value: Any, info: ValidationInfo) -> Any:
        several = value if isinstance(value, list) else [value]
        wanted: tuple[type, ...] = (int, float, str) if info.field_name == "strength" else (str,)
        if value is not None and not all(isinstance(one, wanted) and not isinstance(one, bool) for one in several):
            raise ValueError(f"expected {SET_LORA_FORMS[info.field_name or '']}")
        return no_underscores(value) if info.field_name == "strength" else value
