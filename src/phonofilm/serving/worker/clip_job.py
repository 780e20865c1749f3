"""Making the clips of one job, and the pictures that go with them: from a request to files in the store."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from phonofilm.generation.advice import unused_options
from phonofilm.generation.clip_plan import ClipPlan, work_of
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.outputs import Output
from phonofilm.generation.rehearsal import rehearse_output
from phonofilm.generation.report import OnProgress, Preview, StageStarted
from phonofilm.generation.session import Session
from phonofilm.geometry import ClipGeometry, parse_frame_rate
from phonofilm.media import save_clip
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.serving.jobs.job import Job, MadeClips
from phonofilm.serving.most_work import RunSize, check_run
from phonofilm.serving.security.clip_limits import check_files
from phonofilm.serving.security.public_http import PublicHttp
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.interface import OUTPUTS, Store
from phonofilm.serving.worker.clip_files import THUMBNAIL_WIDTH
from phonofilm.serving.worker.clips_so_far import ClipsSoFar
from phonofilm.serving.worker.first_frames import frame_artist
from phonofilm.serving.worker.held_job import HeldJob
from phonofilm.serving.worker.inputs_of import input_files, options_with_files

RunPlan = Callable[[ClipPlan, OnProgress], MovaPipelineOutput]


def make_job(
    job: Job,
    session: Session,
    settings: WorkerSettings,
    store: Store,
    held: HeldJob,
    web: PublicHttp,
    run: RunPlan | None = None,
) -> MadeClips:
    """Make the clips of the job that are not there yet.

    `run` makes the clip of a plan, where that is not the session alone.
    Raises InputError for what cannot be made, Cancelled when `held` says so.
    """
    started = time.monotonic()
    clips = ClipsSoFar(job, held, store)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="phonofilm-")))
        held.write(stage="reading inputs")
        files = input_files(job.request, settings, store, stack, web)
        check_files(files, settings.limits)
        options = options_of_job(job, files, settings)
        options = _with_help(options, clips, settings, session, folder)
        _reset_peak(session)
        for number, seed in clips.lacking():
            plan = session.plan_options(replace(options, seed=seed))
            _check_runs(plan, session)
            held.begin_clip(number, sum(len(run.sampling.experts) for run in plan.runs))
            path = folder / f"{number}.mp4"
            rehearse_output(plan, Output(path, "mp4"))
            session.resolve([plan], held)
            if not session.placement.offloads:  # elsewhere a decoder in between would drive the weights out
                held.keep_preview = partial(_keep_preview, job, store, folder)
            out = (run or session.run)(plan, held)
            held(StageStarted("writing"))
            (clip,) = out.clips([session.metadata(plan, out)])
            save_clip(clip, path, copy_audio_from=plan.sound_file, copy_video_from=plan.picture_file)
            warnings = _warnings(plan, session, settings)
            clips.add(clip, path, plan.seed, work=work_of(plan), warnings=warnings)
    store.delete(_preview_name(job))
    clips.about["inference_time_s"] = round(time.monotonic() - started, 3)
    clips.about["seconds_per_step"] = held.seconds_per_step
    clips.about["peak_memory_mb"] = round(_peak_memory(session) / 2**20, 1)
    return clips.made()


def options_of_job(job: Job, files: dict[str, Path], settings: WorkerSettings) -> ClipOptions:
    """The options of the job's clips, with the paths of its files and of the operator's LoRAs."""
    return options_with_files(job.request.options, files, job.request.loras, settings)


def _with_help(
    options: ClipOptions, clips: ClipsSoFar, settings: WorkerSettings, session: Session, folder: Path
) -> ClipOptions:
    """The options with what other models write and draw for them; what can fail for nothing is found out before one is asked."""
    request = clips.job.request
    artist = frame_artist(settings.first_frames, options, session) if request.draw_first_frame else None
    if request.enhance_prompt:
        if artist is None:  # without its first frame a clip may have no plan
            session.plan_options(options)
        options = clips.with_written_prompt(options, settings.writing, _seconds(options, session))
    return options if artist is None else artist.with_frame(options, folder, clips.held)


def _warnings(plan: ClipPlan, session: Session, settings: WorkerSettings) -> list[str]:
    """What changes nothing in the clip, or spoils it; a LoRA is called as clients call it."""
    found = unused_options(plan, session.checkpoint.facts)
    for name, file in settings.loras.items():
        found = [text.replace(Path(file).name, f"LoRA {name}") for text in found]
    return found


def _check_runs(plan: ClipPlan, session: Session) -> None:
    """Raises InputError as the server does, which does not know what the given files make of a clip."""
    for run in plan.runs:
        check_run(_size(run.sampling.task.geometry), _size(session.checkpoint.geometry), "length")


def _size(geometry: ClipGeometry) -> RunSize:
    return RunSize(geometry.width, geometry.height, geometry.num_frames)


def _seconds(options: ClipOptions, session: Session) -> float:
    geometry = session.checkpoint.geometry
    if options.seconds is not None:
        return options.seconds
    rate = geometry.frame_rate if options.fps is None else parse_frame_rate(options.fps)
    return float((options.num_frames or geometry.num_frames) / rate)


def _preview_name(job: Job) -> str:
    return f"{OUTPUTS}/{job.id}/{job.attempt}-preview.webp"


def _keep_preview(job: Job, store: Store, folder: Path, preview: Preview) -> str:
    file = folder / "preview.webp"
    image = preview()
    image.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH))
    image.save(file, quality=70)
    store.put(_preview_name(job), file)
    return _preview_name(job)


def _reset_peak(session: Session) -> None:
    if session.placement.device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def _peak_memory(session: Session) -> float:
    """Bytes: on the device since the job began, or, on a CPU, of this process since it began."""
    if session.placement.device.type == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
