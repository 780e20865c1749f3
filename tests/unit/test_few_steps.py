"""Distilled models in plans: their settings are obeyed where none are given, and a setting that is against them is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.unit.checkpoints import GOLDEN, copy_golden, edit_json
from tests.unit.lora_helpers import tiny_components, tiny_lora
from typer.testing import CliRunner

from phonofilm.cli.lora import app as lora_app
from phonofilm.errors import CheckpointError, InputError
from phonofilm.generation.advice import unused_options
from phonofilm.generation.checkpoint import Checkpoint, open_checkpoint
from phonofilm.generation.clip_plan import ClipPlan, plan_clip
from phonofilm.generation.inputs import read_inputs
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.devices import DevicePlacement
from phonofilm.generation.provenance import clip_metadata, read_provenance
from phonofilm.generation.summary import plan_line
from phonofilm.lora.adapter import Layout, LoraFile
from phonofilm.lora.exporting import export_comfyui
from phonofilm.lora.reading import read_lora
from phonofilm.lora.writing import save_lora
from phonofilm.models.config_check import FEW_STEPS_KEY
from phonofilm.pipeline.few_step_loras import WAN_FEW_STEPS, few_steps_of_lora, few_steps_of_loras
from phonofilm.pipeline.few_steps import FewSteps
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.quantizing import quantize_checkpoint

CPU = DevicePlacement(torch.device("cpu"), torch.float32)
FEW = FewSteps(4, 3.0, 2.0, 0.95)


@pytest.fixture(scope="module")
def lora() -> LoraFile:
    return tiny_lora(tiny_components(), few_steps=FEW.as_json())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def file(lora: LoraFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lora(lora, tmp_path_factory.mktemp("lora") / "student.safetensors")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(GOLDEN))


@pytest.fixture(scope="module")
def with_student(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = copy_golden(tmp_path_factory.mktemp("with-student"))
    shutil.copy(file, folder / "few_steps.safetensors")
    return open_checkpoint(str(folder))


def planned(checkpoint: Checkpoint, **options: Any) -> ClipPlan:
    return plan_clip(
        read_inputs(ClipOptions(**{"prompt": "a man", "size": "48x32", "num_frames": 9} | options)), checkpoint
    )


def used(plan: ClipPlan) -> FewSteps:
    s = plan.sampling.sampling
    assert isinstance(s.modality_scale, float)
    return FewSteps(
        s.num_inference_steps,
        s.video_shift,
        s.audio_shift,
        s.boundary_ratio,
        s.guidance_scale,
        s.audio_guidance_scale,
        s.modality_scale,
    )


def test_a_distilled_lora_brings_its_settings(checkpoint: Checkpoint, file: Path) -> None:
    plan = planned(checkpoint, lora=(str(file),))
    assert used(plan) == FEW
    assert plan.sampling.forwards == 4
    assert unused_options(plan, checkpoint.facts) == []
    line = plan_line(plan, checkpoint, CPU)
    assert "4 distilled steps" in line
    assert "1 forward a step, 4 in all" in line
    assert used(planned(checkpoint)).steps == 50


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"steps": 8}, "num_inference_steps is 8, and this model was distilled for 4"),
        ({"guidance_scale": 3.0}, "guidance_scale is 3.0, and this model was distilled for 1"),
        ({"modality_scale": "2"}, "modality_scale is 2.0, and this model was distilled for 1"),
        ({"video_shift": 5.0}, "video_shift is 5.0, and this model was distilled for 3"),
        ({"boundary_ratio": 0.5}, "boundary_ratio is 0.5, and this model was distilled for 0.95"),
    ],
)
def test_a_setting_against_it_is_obeyed_and_named(
    checkpoint: Checkpoint, file: Path, options: dict[str, Any], warning: str
) -> None:
    plan = planned(checkpoint, lora=(str(file),), **options)
    assert any(text.startswith(warning) for text in unused_options(plan, checkpoint.facts))
    assert used(plan) != FEW


def test_a_checkpoints_own_student_is_taken_unless_something_speaks_for_the_teacher(with_student: Checkpoint) -> None:
    for plan in (planned(with_student), planned(with_student, steps=4), planned(with_student, lora=("few-steps",))):
        assert used(plan) == FEW
        assert [use.metadata()["path"] for use in plan.loras] == ["few-steps"]
        assert "few-steps of this checkpoint" in plan_line(plan, with_student, CPU)
    for options in ({"steps": 8}, {"lora": ("none",)}, {"guidance_scale": 5.0}, {"negative_prompt": "x"}):
        plan = planned(with_student, **options)
        assert plan.loras == ()
        assert plan.sampling.few_steps is None
        assert used(plan).guidance_scale == 5.0


def test_a_name_without_a_student_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match=r"has no few_steps\.safetensors"):
        planned(checkpoint, lora=("few-steps",))


def test_a_distilled_checkpoint_says_so_itself(tmp_path: Path) -> None:
    folder = copy_golden(tmp_path)
    edit_json(folder / "model_index.json", lambda index: index.update(few_steps=json.loads(FEW.as_json())))
    checkpoint = open_checkpoint(str(folder))
    assert used(planned(checkpoint)) == FEW
    assert "distilled" in unused_options(planned(checkpoint, steps=9), checkpoint.facts)[0]
    pipe = MovaPipeline.from_pretrained(folder)
    assert pipe.facts.few_steps == FEW
    pipe.save_pretrained(tmp_path / "again")
    assert open_checkpoint(str(tmp_path / "again")).facts.few_steps == FEW
    edit_json(folder / "model_index.json", lambda index: index["few_steps"].update(steps=0))
    with pytest.raises(CheckpointError, match="few_steps"):
        open_checkpoint(str(folder))


def test_the_pipeline_obeys_a_distilled_lora_while_it_is_at_work(lora: LoraFile) -> None:
    pipe = MovaPipeline.from_pretrained(GOLDEN)
    pipe.load_lora_weights(lora, "student")
    assert pipe.facts.few_steps == FEW
    pipe.set_adapters([])
    assert pipe.facts.few_steps is None


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("wan2.2_i2v_A14b_low_noise_lora_rank64_lightx2v_4step_1022.safetensors", True),
        ("Wan2.2-I2V-A14B-4steps-lora-rank64-Seko-V1/high_noise_model.safetensors", True),
        ("Wan22_Lightning_I2V_HIGH.safetensors", True),
        ("loras/cartoon.safetensors", False),
        ("lightning/cat.safetensors", False),
    ],
)
def test_few_step_loras_of_wan_are_known_by_name_and_cover_the_picture_alone(name: str, known: bool) -> None:
    components = tiny_components()
    video = replace(tiny_lora(components, only=["video_dit_2"]), layout=Layout.COMFYUI)
    assert few_steps_of_lora(video, name) == (WAN_FEW_STEPS if known else None)
    assert few_steps_of_lora(replace(tiny_lora(components), layout=Layout.COMFYUI), name) is None
    ours = tiny_lora(components, only=["video_dit_2"], base_model="lightning-ai/MOVA-360p")
    for lora in (ours, replace(ours, layout=Layout.COMFYUI)):  # the second: in another layout, with our metadata
        assert few_steps_of_lora(lora, name) is None


def test_a_few_step_lora_of_wan_that_is_converted_says_so_itself(tmp_path: Path) -> None:
    high = tiny_lora(tiny_components(), only=["video_dit"])
    folder = export_comfyui(high, tmp_path / "comfyui")
    source = folder.rename(folder.parent / "lightx2v_4step") / "high_noise.safetensors"
    source = source.rename(tmp_path / "lightx2v_4step_high.safetensors")
    result = CliRunner().invoke(lora_app, ["convert", str(source), "-o", str(tmp_path / "mine.safetensors")])
    assert result.exit_code == 0, result.output
    assert few_steps_of_lora(read_lora(tmp_path / "mine.safetensors"), "mine") == WAN_FEW_STEPS


def test_the_plan_says_what_such_a_lora_leaves_out(checkpoint: Checkpoint, tmp_path: Path) -> None:
    high = tiny_lora(tiny_components(), only=["video_dit"])
    path = export_comfyui(high, tmp_path / "comfyui") / "high_noise.safetensors"
    path = path.rename(tmp_path / "high_noise_lightx2v_4step.safetensors")
    plan = planned(checkpoint, lora=(str(path),))
    assert used(plan) == WAN_FEW_STEPS
    assert "taken for a few-step LoRA of Wan by its name, lightx2v" in plan_line(plan, checkpoint, CPU)
    assert "few-step LoRA without video_dit_2, audio_dit, dual_tower_bridge: undistilled there" in plan_line(
        plan, checkpoint, CPU
    )


def test_two_students_of_different_settings_do_not_work_together(lora: LoraFile) -> None:
    with pytest.raises(InputError, match="were distilled for different settings"):
        few_steps_of_loras(
            {
                "one": lora,
                "two": LoraFile(lora.layout, lora.adapters, {FEW_STEPS_KEY: FewSteps(2, 3.0, 3.0, 0.9).as_json()}),
            }
        )


def test_the_white_frame_of_text_alone_is_encoded_once_for_a_size_and_weights() -> None:
    pipe = MovaPipeline.from_pretrained(GOLDEN)
    pipe.set_progress_bar_config(disable=True)
    seen: list[int] = []
    pipe.video_vae.encoder.register_forward_hook(lambda *_: seen.append(1))

    def encodings(**changes: Any) -> int:
        told = {"height": 32, "width": 48, "num_frames": 9, "num_inference_steps": 1, "output_type": "latent"} | changes
        before = len(seen)
        made.append(pipe("a man", generator=torch.Generator().manual_seed(1), **told).frames)
        return len(seen) - before

    made: list[torch.Tensor] = []
    assert encodings() > 0
    assert encodings() == 0
    assert torch.equal(made[0], made[1])
    assert encodings(num_frames=5) > 0
    assert encodings(num_frames=5, image=Image.new("RGB", (48, 32))) > 0
    encodings()
    with torch.no_grad():
        next(pipe.video_vae.encoder.parameters()).mul_(1.5)
    assert encodings() > 0


def merged(tmp_path: Path, model: Path | str, *loras: str) -> tuple[Checkpoint, str]:
    result = CliRunner().invoke(lora_app, ["merge", *loras, "--model", str(model), "-o", str(tmp_path / "merged")])
    assert result.exit_code == 0, result.output
    return open_checkpoint(str(tmp_path / "merged")), result.output


@pytest.mark.parametrize(("strength", "weakened"), [("", False), (":0.5", True), (":audio=0", True)])
def test_a_merged_student_brings_its_settings(file: Path, tmp_path: Path, strength: str, weakened: bool) -> None:
    checkpoint, output = merged(tmp_path, GOLDEN, f"{file}{strength}")
    assert used(planned(checkpoint)) == FEW
    assert "sampled in 4 distilled steps" in output
    assert ("learnt at strength 1" in output) is weakened
    index = json.loads((tmp_path / "merged" / "model_index.json").read_text())
    assert (index["boundary_ratio"], index["defaults"]["num_inference_steps"]) == (0.95, 4)
    assert "few_steps" not in json.loads((GOLDEN / "model_index.json").read_text())


def test_a_student_that_was_merged_is_not_applied_again(with_student: Checkpoint, tmp_path: Path) -> None:
    checkpoint, output = merged(tmp_path, with_student.layout.folder, "few-steps")
    plan = planned(checkpoint)
    assert plan.loras == ()
    assert used(plan) == FEW
    assert "without few_steps.safetensors" not in output


def test_a_checkpoint_with_another_lora_in_it_leaves_the_student_of_the_old_weights_out(
    with_student: Checkpoint, tmp_path: Path
) -> None:
    look = save_lora(tiny_lora(tiny_components(), seed=7), tmp_path / "look.safetensors")
    checkpoint, output = merged(tmp_path, with_student.layout.folder, str(look))
    assert planned(checkpoint).loras == ()
    assert used(planned(checkpoint)).steps == 50
    assert "without few_steps.safetensors" in output


def test_a_pipeline_saved_with_a_student_at_work_says_so(lora: LoraFile, tmp_path: Path) -> None:
    pipe = MovaPipeline.from_pretrained(GOLDEN)
    pipe.load_lora_weights(lora, "student")
    pipe.save_pretrained(tmp_path / "saved")
    assert used(planned(open_checkpoint(str(tmp_path / "saved")))) == FEW


def repeated(checkpoint: Checkpoint, plan: ClipPlan, **options: Any) -> ClipPlan:
    """The plan of the clip of `plan` made again, with these options besides."""
    again = ClipOptions(**options)
    provenance = read_provenance(clip_metadata(plan, checkpoint, CPU), Path("clip.mp4"), again)
    provenance.check_model(checkpoint)
    return plan_clip(read_inputs(again.over(provenance.options)), checkpoint)


def test_a_students_clip_repeated_without_it_is_the_teachers(
    with_student: Checkpoint, checkpoint: Checkpoint, file: Path
) -> None:
    for model, plan in (
        (with_student, planned(with_student)),
        (checkpoint, planned(checkpoint, lora=(str(file),))),
    ):
        teacher = planned(model, lora=("none",))
        assert used(repeated(model, plan, lora=("none",))) == used(teacher)
        assert used(repeated(model, plan, lora=("none",), steps=7)).steps == 7
    student = planned(with_student)
    assert used(repeated(with_student, student)) == FEW
    assert [use.own for use in repeated(with_student, student).loras] == [True]
    unusual = planned(with_student, lora=("few-steps",), steps=6)
    assert used(repeated(with_student, unusual)).steps == 6
    assert used(repeated(with_student, unusual, lora=("none",))).steps == 6


def test_a_students_clip_is_not_repeated_with_another_student(file: Path, tmp_path: Path) -> None:
    folder = copy_golden(tmp_path)
    shutil.copy(file, folder / "few_steps.safetensors")
    before = open_checkpoint(str(folder))
    plan = planned(before)
    other = tiny_lora(tiny_components(), seed=5, few_steps=FEW.as_json())  # type: ignore[arg-type]
    (folder / "few_steps.safetensors").unlink()
    shutil.copy(save_lora(other, tmp_path / "other.safetensors"), folder / "few_steps.safetensors")
    after = open_checkpoint(str(folder))
    metadata = clip_metadata(plan, before, CPU)
    with pytest.raises(CheckpointError, match=r"another few_steps\.safetensors"):
        read_provenance(metadata, Path("clip.mp4"), ClipOptions()).check_model(after)
    read_provenance(metadata, Path("clip.mp4"), ClipOptions(lora=("none",))).check_model(after)
    (folder / "few_steps.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no few_steps\.safetensors"):
        read_provenance(metadata, Path("clip.mp4"), ClipOptions()).check_model(open_checkpoint(str(folder)))


def test_a_student_at_strength_0_is_the_teacher(with_student: Checkpoint, file: Path) -> None:
    for name in ("few-steps", str(file)):
        plan = planned(with_student, lora=(f"{name}:0",))
        assert used(plan).steps == 50
        assert plan.sampling.few_steps is None
        assert any("its strength is 0" in text for text in unused_options(plan, with_student.facts))
        weak = planned(with_student, lora=(f"{name}:0.5",))
        assert used(weak) == FEW
        assert any("learnt at strength 1" in text for text in unused_options(weak, with_student.facts))
    pipe = MovaPipeline.from_pretrained(GOLDEN)
    pipe.load_lora_weights(file, "student", weight=0.0)
    assert pipe.facts.few_steps is None


def test_the_students_own_settings_keep_it(with_student: Checkpoint) -> None:
    own: dict[str, Any] = {"steps": 4, "guidance_scale": 1.0, "audio_guidance_scale": 1.0, "modality_scale": "1"}
    own |= {"video_shift": 3.0, "audio_shift": 2.0, "boundary_ratio": 0.95}
    own |= {"solver": "euler", "cache": "none", "guidance_interval": "0:1"}
    for options in (*({name: value} for name, value in own.items()), own):
        assert [use.own for use in planned(with_student, **options).loras] == [True], options
    for options in (
        {"solver": "ab2"},
        {"cache": "easy"},
        {"guidance_interval": "0:0.5"},
        {"modality_scale": "1,2,1,1"},
    ):
        assert planned(with_student, **options).loras == (), options


def test_guidance_that_a_distilled_model_asks_for_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    few = replace(FEW, guidance_scale=-1000.0, modality_scale=1000.0)
    odd = save_lora(tiny_lora(tiny_components(), few_steps=few.as_json()), tmp_path / "odd.safetensors")  # type: ignore[arg-type]
    plan = planned(checkpoint, lora=(str(odd),))
    warnings = [text for text in unused_options(plan, checkpoint.facts) if "has its guidance in its weights" in text]
    assert [text.partition(",")[0] for text in warnings] == [
        "this model's own settings have guidance_scale -1000",
        "this model's own settings have modality_scale 1000",
    ]
    given = planned(checkpoint, lora=(str(odd),), guidance_scale=1.0, modality_scale="1")
    assert not any("own settings" in text for text in unused_options(given, checkpoint.facts))


@pytest.mark.parametrize(("options", "wanted"), [({"solver": "ab2"}, "euler"), ({"cache": "easy:0.1"}, "none")])
def test_another_solver_or_a_cache_is_named(
    checkpoint: Checkpoint, file: Path, options: dict[str, str], wanted: str
) -> None:
    (name,) = options
    plan = planned(checkpoint, lora=(str(file),), **options)
    (text,) = (text for text in unused_options(plan, checkpoint.facts) if text.startswith(name))
    assert f"this model was distilled for {wanted}" in text


def test_a_damaged_student_is_refused_with_the_way_round_it(tmp_path: Path) -> None:
    folder = copy_golden(tmp_path)
    (folder / "few_steps.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"few_steps\.safetensors.*lora=none is the model without its student"):
        planned(open_checkpoint(str(folder)))
    assert planned(open_checkpoint(str(folder)), lora=("none",)).sampling.few_steps is None


def test_quantising_says_that_the_student_is_left_out(
    with_student: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quantize_checkpoint(str(with_student.layout.folder), "int8", "keep", tmp_path / "small", False)
    assert not (tmp_path / "small" / "few_steps.safetensors").exists()
    assert "without few_steps.safetensors" in caplog.text
    assert "lora merge few-steps" in caplog.text


def test_one_step_is_not_plural(checkpoint: Checkpoint) -> None:
    assert "1 step (1 high-noise)" in plan_line(planned(checkpoint, steps=1), checkpoint, CPU)
