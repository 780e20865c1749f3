"""From clips to a report: list them, measure, summarise, compare, write. What `phonofilm evaluate` does, without its screen."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from phonofilm.data.endpoint import check_address
from phonofilm.errors import InputError
from phonofilm.evaluation.catalogue import build
from phonofilm.evaluation.clip_list import ClipEntry, list_clips, passed_over, without_clip
from phonofilm.evaluation.figures import summarise_metric
from phonofilm.evaluation.local_transcripts import PACKAGED, is_local
from phonofilm.evaluation.measuring import MeasuringPlan, OnClip, Sharing, measure_all, measure_on_this_machine
from phonofilm.evaluation.metric import PROFILES, Setup
from phonofilm.evaluation.paper import compare_with_paper
from phonofilm.evaluation.prompt_items import choose_sets, read_prompt_items
from phonofilm.evaluation.result import REPORT_FILE, RESULT_FILE, Evaluated, read_result, write_result
from phonofilm.evaluation.weights import weights_folder
from phonofilm.files import replacing
from phonofilm.process.lock_file import LockOwner, held
from phonofilm.units import counted
from phonofilm.untrusted import shown

ROWS_FOLDER, LOCK_FILE = "rows", ".phonofilm-evaluate.lock"


def make_setup(profile: str, weights: Path | None, device: str, asr: str, asr_url: str | None) -> Setup:
    """How to measure, from the words of the command. Raises InputError for an unknown profile or device, no such folder, and a
    recogniser that is none."""
    known = next((one for one in PROFILES if one == profile), None)
    if known is None:
        raise InputError(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
    if asr_url is not None:
        check_address(asr_url)
        if not asr:
            raise InputError(f"--asr-url {asr_url} is given without a model; name it with --asr")
    elif asr and not is_local(asr):
        raise InputError(
            f"--asr {shown(asr)}: there is no such folder with a Whisper model, and it is not {PACKAGED}; for a server's model "
            "add --asr-url"
        )
    folder = weights_folder(weights)
    if folder is not None and not folder.is_dir():
        raise InputError(f"there is no folder {folder} with weights; make it, or leave --weights out")
    if folder is None:  # no network of ours can run, and asking for the device would start PyTorch
        return Setup(known, None, "cpu", asr, asr_url)
    from phonofilm.generation.placement.devices import choose_device

    return Setup(known, folder, str(choose_device(device)), asr, asr_url)


def plan_evaluation(
    clips: Sequence[Path],
    report: Path,
    metrics: Sequence[str],
    setup: Setup,
    prompts: Path | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    sets: Sequence[str] = (),
) -> MeasuringPlan:
    """Everything that can be refused is refused here: paths, prompts, names of metrics, two clips of one name.

    sets: the categories of the prompt file that clips are expected of; all of them without a name.
    """
    if sets and prompts is None:
        raise InputError("--set names a category of a prompt file; name the file with --prompts")
    items = choose_sets(read_prompt_items(prompts), sets) if prompts else ()
    entries = list_clips(clips, items)
    _require_room_for(report)
    names = tuple(metric.name for metric in build(metrics, setup))
    unmatched = items and not any(entry.item for entry in entries)
    strangers = "no clip is named after an item of the prompt file, so none has a prompt" if unmatched else ""
    notes = (passed_over(clips, report), strangers, _replaced(report, entries, names, setup))
    return MeasuringPlan(entries, names, setup, report / ROWS_FOLDER, jobs, ray, items, tuple(filter(None, notes)))


def evaluate(
    plan: MeasuringPlan,
    on_clip: OnClip = lambda done, total: None,
    sharing: Sharing = measure_on_this_machine,
) -> Evaluated:
    """Measure what is not measured yet, and pool it."""
    rows = measure_all(plan, on_clip, sharing)
    metrics = build(plan.metrics, plan.setup)
    categories = [clip.category for clip in plan.clips]
    summaries = {
        metric.name: summarise_metric(metric, [rows[clip.id][metric.name] for clip in plan.clips], categories)
        for metric in metrics
    }
    missing = without_clip(plan.items, plan.clips)
    asked = Counter(item.category for item in plan.items) if plan.items else Counter(categories)
    return Evaluated(
        clips=plan.clips,
        metrics=metrics,
        setup=plan.setup,
        rows=rows,
        summaries=summaries,
        comparisons=compare_with_paper(metrics, summaries, plan.setup.profile, asked),
        without_clip=tuple(item.id for item in missing),
    )


def lacks_a_metric(run: Evaluated, allow_missing: bool = False) -> bool:
    """Whether a metric applies to some clip and has no figure: it failed, or, unless that is allowed, was unavailable."""
    without = [one.states for one in run.summaries.values() if not one.ok]
    unmeasured = [states for states in without if states["failed"] or states["unavailable"]]
    return any(not (allow_missing and states["unavailable"]) for states in unmeasured)


def write_report(run: Evaluated, folder: Path) -> list[Path]:
    """result.json and report.html in the folder: both of this run, or, where one cannot be written, both as they were."""
    from phonofilm.evaluation.report_page import write_page_of

    with replacing(folder / RESULT_FILE) as result, replacing(folder / REPORT_FILE) as page:
        write_result(run, folder, result)
        write_page_of(run, folder, page)
    return [folder / RESULT_FILE, folder / REPORT_FILE]


@contextmanager
def sole_writer(report: Path) -> Iterator[None]:
    """Raises InputError while another run measures for this report: it would be replaced by one that does not know it."""
    report.mkdir(parents=True, exist_ok=True)

    def refusal(owner: LockOwner) -> str:
        return f"{owner} is measuring for the report in {report}; wait for it, or name another folder with -o"

    with held(report / LOCK_FILE, refusal):
        yield


def _require_room_for(report: Path) -> None:
    """Raises InputError for a folder that the report could not be written into, before anything is measured."""
    place = next(one for one in (report.absolute(), *report.absolute().parents) if os.path.lexists(one))
    if not place.is_dir():
        what = "a link that leads nowhere" if place.is_symlink() and not place.exists() else "a file"
        raise InputError(f"{place} is {what}; name a folder for the report")
    for name in (RESULT_FILE, REPORT_FILE):
        if (report / name).is_dir():
            raise InputError(
                f"{report / name} is a folder, where the report has a file; remove it, or name another folder"
            )
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{report} cannot be written: {place} is not open to you; name another folder for the report")


def _replaced(report: Path, clips: Sequence[ClipEntry], metrics: Sequence[str], setup: Setup) -> str:
    """What of the folder's last report will not be in the new one, as a sentence; empty for nothing."""
    if not (report / RESULT_FILE).exists():
        return ""
    try:
        old = read_result(report)
        names, ids = set(old["metrics"]), {clip["id"] for clip in old["clips"]}
    except InputError as error:
        return f"replaces {RESULT_FILE} in the folder, which is no report: {error}"
    gone = [f"profile {old['profile']}"] if old.get("profile") not in (None, setup.profile) else []
    gone += sorted(names - set(metrics))
    lost = len(ids - {clip.id for clip in clips})
    gone += [counted(lost, "clip")] if lost else []
    return f"replaces the folder's report, without its {', '.join(gone)} (rows are kept)" if gone else ""
