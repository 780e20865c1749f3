"""`phonofilm generate`: the command's options, and what it does with them. Only glue; docs/generate.md explains it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from phonofilm.cli.machine_options import OnRay, SeveralDevices, hardware
from phonofilm.cli.option_groups import spread
from phonofilm.cli.serving_options import FirstFrames
from phonofilm.generation.options import ClipOptions
from phonofilm.serving.ray_options import run_on
from phonofilm.untrusted import printable

make = partial(typer.Option, rich_help_panel="What to make")
tracks = partial(typer.Option, rich_help_panel="Given tracks")
sampling = partial(typer.Option, rich_help_panel="Sampling")
written = partial(typer.Option, rich_help_panel="Output")

CLIP = {
    "prompt": typer.Argument(help="What is seen and heard; in a film also '0-8: ...; 8-16: ...'."),
    "image": make("--image", "-i", help="First frame."),
    "last_image": make(help="Last frame."),
    "keyframe": make(metavar="SECONDS=FILE", help="A picture that is shown at this time. May be repeated."),
    "image_fit": make(help="How pictures get the size: crop (default) or letterbox."),
    "size": make(metavar="360p|720p|WxH|auto", help="Frame size; auto takes the image's shape."),
    "seconds": make(help="Length; what is longer than the model makes at once is made in parts."),
    "part_seconds": make(help="How long each part of a film is, instead of the model's own length."),
    "num_frames": make(help="Length in frames, exactly: 1 + 4k; always in one part."),
    "fps": make(help="Frames per second, such as 24, 23.976 or 30000/1001."),
    "negative_prompt": make(help="What guidance leads away from."),
    "lora": make(metavar="FILE[:STRENGTH]", help="A LoRA; :0.8, or :video=1,audio=0.5,bridge=0. May be repeated."),
    "seed": make(help="One seed, one clip. Random, and printed, by default."),
    "num_clips": make("--num-clips", "-n", help="Clips to make, with seeds seed, seed+1, ..."),
    "video": tracks(help="A clip that wants sound; its picture is kept."),
    "audio": tracks(help="A sound that wants a picture; it is kept."),
    "voice": tracks(help="A sample of a voice that stands before the clip and is cut off. An experiment."),
    "continue_from": tracks(help="A clip to go on from; it becomes longer."),
    "overlap_frames": tracks(help="Frames of it that are held (1 + 4k). [default: 17]"),
    "retake_tracks": tracks(help="both (default), video or audio."),
    "steps": sampling(help="Sampling steps."),
    "guidance_scale": sampling(help="How strongly the prompt is followed; 1 is off."),
    "audio_guidance_scale": sampling(help="The same for the sound alone."),
    "modality_scale": sampling(help='How strongly picture and sound follow each other: 2, or "3.5,1" over the steps.'),
    "guidance_interval": sampling(
        metavar="START:END", help="Part of the steps that is guided: 0:0.6 is the first 60 %."
    ),
    "solver": sampling(help="euler (default), ab2, dpmpp_2m or unipc."),
    "cache": sampling(
        metavar="easy:THRESHOLD", help="Skip steps that change little; the clip changes. none by default."
    ),
    "video_shift": sampling(help="Shift of the picture's noise schedule."),
    "audio_shift": sampling(help="Shift of the sound's noise schedule."),
    "boundary_ratio": sampling(help="Noise (0 to 1) down to which the first expert works."),
    "output_type": written(help="mp4, webm, gif, frames or latent; what the name says by default."),
    "contact_sheet": written(help="Also write a picture of the clip's frames and sound."),
}


@spread
def generate(
    model: Annotated[
        str | None, make("--model", "-m", help="Checkpoint folder, hub id, nano, 360p or 720p. [default: nano]")
    ] = None,
    *,
    clip: Annotated[ClipOptions, CLIP],
    like: Annotated[Path | None, make(help="A clip to repeat; other options change what they say.")] = None,
    prompts: Annotated[
        Path | None, make(help="Many clips: a prompt a line, or JSONL with settings. Resumes where it stopped.")
    ] = None,
    retake: Annotated[
        list[str] | None,
        tracks(metavar="START:END[=PROMPT]", help="Seconds of --video to make anew. May be repeated."),
    ] = None,
    machine: SeveralDevices,
    shared: OnRay,
    frames: FirstFrames,
    remove_video_dit: Annotated[
        bool, hardware("--remove-video-dit", help="Give the first expert's memory back once it is done.")
    ] = False,
    output: Annotated[
        str | None,
        written("--output", "-o", metavar="PATH", help="File (.mp4 .webm .gif .safetensors), or a folder for frames."),
    ] = None,
    overwrite: Annotated[
        bool,
        written(
            help="Replace files that exist. With --prompts, clips that are there already, whole and as asked for, are kept."
        ),
    ] = False,
) -> None:
    """Make a clip: picture and sound together, from a prompt and a first frame.

    \b
    phonofilm generate "A red ball bounces on a wooden floor in front of a pale blue sky."
    phonofilm generate "A man in a blue blazer speaks." --image first.png --model 360p -o man.mp4
    phonofilm generate "The ball bounces on stone." --video silent.mp4 -o sounding.mp4
    """
    from phonofilm.generation.outputs import named_output
    from phonofilm.generation.preflight import check_request

    options = replace(
        clip,
        retake="; ".join(retake) if retake else None,
        output=None if output is None else named_output(output),
    )
    checked = check_request(options, model, like=like, prompts=prompts, overwrite=overwrite)
    drawing = frames.drawing() if any(vars(frames).values()) else None
    cluster = shared.cluster(prompts is not None) if any(vars(shared).values()) else None
    typer.echo(printable(checked.line), err=True)  # the next two seconds import PyTorch

    from phonofilm.cli.progress import open_display
    from phonofilm.generation.run import RunOptions, run

    order = RunOptions(options, machine, model, like, prompts, overwrite, remove_video_dit, drawing)
    for path in run(order, open_display) if cluster is None else run_on(cluster, order, open_display):
        typer.echo(path)
