"""`phonofilm generate`: the command's options, and what it does with them. Only glue; docs/generate.md explains it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from phonofilm.cli.machine_options import SeveralDevices, hardware
from phonofilm.cli.option_groups import spread
from phonofilm.untrusted import printable

make = partial(typer.Option, rich_help_panel="What to make")
tracks = partial(typer.Option, rich_help_panel="Given tracks")
sampling = partial(typer.Option, rich_help_panel="Sampling")
written = partial(typer.Option, rich_help_panel="Output")


@spread
def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What is seen and heard; in a film also '0-8: ...; 8-16: ...'.")
    ] = None,
    image: Annotated[Path | None, make("--image", "-i", help="First frame.")] = None,
    model: Annotated[
        str | None, make("--model", "-m", help="Checkpoint folder, hub id, nano, 360p or 720p. [default: nano]")
    ] = None,
    last_image: Annotated[Path | None, make(help="Last frame.")] = None,
    keyframe: Annotated[
        list[str] | None,
        make(metavar="SECONDS=FILE", help="A picture that is shown at this time. May be repeated."),
    ] = None,
    image_fit: Annotated[str | None, make(help="How pictures get the size: crop (default) or letterbox.")] = None,
    size: Annotated[
        str | None, make(metavar="360p|720p|WxH|auto", help="Frame size; auto takes the image's shape.")
    ] = None,
    seconds: Annotated[
        float | None, make(help="Length; what is longer than the model makes at once is made in parts.")
    ] = None,
    part_seconds: Annotated[
        float | None, make(help="How long each part of a film is, instead of the model's own length.")
    ] = None,
    num_frames: Annotated[int | None, make(help="Length in frames, exactly: 1 + 4k; always in one part.")] = None,
    fps: Annotated[str | None, make(help="Frames per second, such as 24, 23.976 or 30000/1001.")] = None,
    negative_prompt: Annotated[str | None, make(help="What guidance leads away from.")] = None,
    lora: Annotated[
        list[str] | None,
        make(metavar="FILE[:STRENGTH]", help="A LoRA; :0.8, or :video=1,audio=0.5,bridge=0. May be repeated."),
    ] = None,
    seed: Annotated[int | None, make(help="One seed, one clip. Random, and printed, by default.")] = None,
    num_clips: Annotated[
        int | None, make("--num-clips", "-n", help="Clips to make, with seeds seed, seed+1, ...")
    ] = None,
    like: Annotated[Path | None, make(help="A clip to repeat; other options change what they say.")] = None,
    prompts: Annotated[
        Path | None, make(help="Many clips: a prompt a line, or JSONL with settings. Resumes where it stopped.")
    ] = None,
    video: Annotated[Path | None, tracks(help="A clip that wants sound; its picture is kept.")] = None,
    audio: Annotated[Path | None, tracks(help="A sound that wants a picture; it is kept.")] = None,
    voice: Annotated[
        Path | None, tracks(help="A sample of a voice that stands before the clip and is cut off. An experiment.")
    ] = None,
    continue_from: Annotated[Path | None, tracks(help="A clip to go on from; it becomes longer.")] = None,
    overlap_frames: Annotated[int | None, tracks(help="Frames of it that are held (1 + 4k). [default: 17]")] = None,
    retake: Annotated[
        list[str] | None,
        tracks(metavar="START:END[=PROMPT]", help="Seconds of --video to make anew. May be repeated."),
    ] = None,
    retake_tracks: Annotated[str | None, tracks(help="both (default), video or audio.")] = None,
    steps: Annotated[int | None, sampling(help="Sampling steps.")] = None,
    guidance_scale: Annotated[float | None, sampling(help="How strongly the prompt is followed; 1 is off.")] = None,
    audio_guidance_scale: Annotated[float | None, sampling(help="The same for the sound alone.")] = None,
    modality_scale: Annotated[
        str | None, sampling(help='How strongly picture and sound follow each other: 2, or "3.5,1" over the steps.')
    ] = None,
    guidance_interval: Annotated[
        str | None, sampling(metavar="START:END", help="Part of the steps that is guided: 0:0.6 is the first 60 %.")
    ] = None,
    solver: Annotated[str | None, sampling(help="euler (default), ab2, dpmpp_2m or unipc.")] = None,
    cache: Annotated[
        str | None,
        sampling(metavar="easy:THRESHOLD", help="Skip steps that change little; the clip changes. none by default."),
    ] = None,
    video_shift: Annotated[float | None, sampling(help="Shift of the picture's noise schedule.")] = None,
    audio_shift: Annotated[float | None, sampling(help="Shift of the sound's noise schedule.")] = None,
    boundary_ratio: Annotated[
        float | None, sampling(help="Noise (0 to 1) down to which the first expert works.")
    ] = None,
    *,
    machine: SeveralDevices,
    remove_video_dit: Annotated[
        bool, hardware("--remove-video-dit", help="Give the first expert's memory back once it is done.")
    ] = False,
    output: Annotated[
        str | None,
        written("--output", "-o", metavar="PATH", help="File (.mp4 .webm .gif .safetensors), or a folder for frames."),
    ] = None,
    output_type: Annotated[
        str | None, written(help="mp4, webm, gif, frames or latent; what the name says by default.")
    ] = None,
    overwrite: Annotated[
        bool,
        written(
            help="Replace files that exist. With --prompts, clips that are there already, whole and as asked for, are kept."
        ),
    ] = False,
    contact_sheet: Annotated[Path | None, written(help="Also write a picture of the clip's frames and sound.")] = None,
) -> None:
    """Make a clip: picture and sound together, from a prompt and a first frame.

    \b
    phonofilm generate "A red ball bounces on a wooden floor."
    phonofilm generate "A man in a blue blazer speaks." --image first.png --model 360p -o man.mp4
    phonofilm generate "The ball bounces on stone." --video silent.mp4 -o sounding.mp4
    """
    from phonofilm.generation.options import ClipOptions
    from phonofilm.generation.outputs import check_slash
    from phonofilm.generation.preflight import check_request

    if output is not None and output.endswith("/"):
        check_slash(output)
    options = ClipOptions(
        prompt, negative_prompt, image, last_image, tuple(keyframe) if keyframe else None, image_fit,
        video=video, audio=audio, voice=voice, continue_from=continue_from, overlap_frames=overlap_frames,
        retake="; ".join(retake) if retake else None, retake_tracks=retake_tracks,
        size=size, seconds=seconds, part_seconds=part_seconds, num_frames=num_frames, fps=fps, steps=steps,
        guidance_scale=guidance_scale, audio_guidance_scale=audio_guidance_scale, modality_scale=modality_scale,
        guidance_interval=guidance_interval, solver=solver, cache=cache, video_shift=video_shift, seed=seed,
        audio_shift=audio_shift, boundary_ratio=boundary_ratio, lora=tuple(lora) if lora else None, num_clips=num_clips,
        output=None if output is None else Path(output), output_type=output_type, contact_sheet=contact_sheet,
    )  # fmt: skip
    checked = check_request(options, model, like=like, prompts=prompts, overwrite=overwrite)
    typer.echo(printable(checked.line), err=True)  # the next two seconds import PyTorch

    from phonofilm.cli.progress import open_display
    from phonofilm.generation.run import RunOptions, run

    for path in run(RunOptions(options, machine, model, like, prompts, overwrite, remove_video_dit), open_display):
        typer.echo(path)
