"""The ComfyUI pack: every node makes what it says on the tiny checkpoint, and the example graphs fit the nodes."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import GOLDENS
from tests.integration.comfy_api import Host, Interrupted, VideoFromComponents, comfyui
from tests.unit.lora_helpers import tiny_components, tiny_lora

from phonofilm.errors import InputError, OutOfMemoryError
from phonofilm.lora.writing import save_lora

PACK = GOLDENS.parents[1] / "integrations" / "comfyui"
EXAMPLES = sorted(PACK.glob("example_workflows/*.json"))
CORE = {"SaveVideo": (["video"], 3), "ImageFromBatch": (["image"], 2)}
SMALL: dict[str, Any] = {"prompt": "a man", "seed": 1, "steps": 1, "guidance_scale": 1.0}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    models = tmp_path_factory.mktemp("models")
    for folder in ("phonofilm", "loras"):
        (models / folder).mkdir()
    (models / "phonofilm" / "tiny").symlink_to(GOLDENS / "basic" / "checkpoint")
    save_lora(tiny_lora(tiny_components(), alpha=0.4), models / "loras" / "voice.safetensors")
    with comfyui(models) as host:
        yield host


@pytest.fixture(scope="module")
def nodes(host: Host) -> Iterator[dict[str, Any]]:
    with imported("custom_nodes_comfyui_phonofilm") as module:
        extension = asyncio.run(module.comfy_entrypoint())
        yield {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}


@contextmanager
def imported(name: str) -> Iterator[Any]:
    """The pack, imported as ComfyUI imports a folder of custom nodes."""
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        for loaded in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            del sys.modules[loaded]


@pytest.fixture(scope="module")
def model(nodes: dict[str, Any]) -> Any:
    (model,) = nodes["PhonofilmLoad"].run(model="tiny", device="cpu").result
    return model


@pytest.fixture(scope="module")
def video(nodes: dict[str, Any], model: Any) -> VideoFromComponents:
    made = nodes["PhonofilmGenerate"].run(model=model, size="32x32", seconds=0.4, **SMALL).result
    result: VideoFromComponents = made[0]
    return result


def test_a_clip_comes_out_as_video_images_sound_and_plan(nodes: dict[str, Any], model: Any, host: Host) -> None:
    host.progress.clear()
    image = torch.rand(1, 32, 32, 3)
    video, images, audio, plan = (
        nodes["PhonofilmGenerate"]
        .run(model=model, size="32x32", seconds=0.4, image=image, **SMALL | {"steps": 3})
        .result
    )
    assert images.shape == (9, 32, 32, 3)
    assert audio["waveform"].shape == (1, 1, 18000)
    assert video.get_components().frame_rate == 24
    assert "first frame given" in plan
    assert plan.count("seed 1") == 1
    assert [(value, most) for value, most, _ in host.progress] == [(1, 3), (2, 3), (3, 3)]
    assert [preview is not None for *_, preview in host.progress] == [False, True, True]
    assert host.progress[-1][2].size == (32, 32)


def test_frames_keep_their_grey_levels_on_the_way_through_a_video(nodes: dict[str, Any]) -> None:
    media = sys.modules["custom_nodes_comfyui_phonofilm.nodes.media"]
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = media.images_of(media.Clip(levels, 24))
    assert np.array_equal((images * 255).clamp(0, 255).byte().numpy(), levels)  # as SaveVideo has it


def test_given_tracks_are_kept_and_the_others_made(nodes: dict[str, Any], model: Any, video: Any) -> None:
    given = video.get_components()
    sounding = nodes["PhonofilmSoundForVideo"].run(model=model, video=video, **SMALL).result
    assert torch.equal(sounding[1], given.images)
    assert not torch.equal(sounding[2]["waveform"], given.audio["waveform"])
    seen = nodes["PhonofilmPictureForSound"].run(model=model, audio=given.audio, size="32x32", **SMALL).result
    assert torch.equal(seen[2]["waveform"], given.audio["waveform"])
    assert not torch.equal(seen[1], given.images)


def test_a_video_is_continued_and_a_stretch_of_it_made_anew(nodes: dict[str, Any], model: Any, video: Any) -> None:
    longer = nodes["PhonofilmContinue"].run(model=model, video=video, overlap_frames=5, seconds=0.4, **SMALL).result
    assert len(longer[1]) == 13
    mended = nodes["PhonofilmRetake"].run(model=model, video=video, stretches="0.1:0.2", tracks="video", **SMALL).result
    changed = (mended[1] != video.get_components().images).any(-1).any(-1).any(-1)
    assert changed.tolist() == [False, *[True] * 4, *[False] * 4]


def test_loras_are_added_for_some_and_not_for_others(nodes: dict[str, Any], model: Any, video: Any) -> None:
    (with_lora,) = nodes["PhonofilmLora"].run(model=model, lora="voice.safetensors").result
    words = {"size": "32x32", "seconds": 0.4, **SMALL}
    other = nodes["PhonofilmGenerate"].run(model=with_lora, **words).result
    assert "LoRA voice.safetensors" in other[3]
    assert not torch.equal(other[1], video.get_components().images)
    again = nodes["PhonofilmGenerate"].run(model=model, **words).result
    assert torch.equal(again[1], video.get_components().images)


def test_weights_leave_when_memory_is_needed_and_come_back(
    nodes: dict[str, Any], model: Any, video: Any, host: Host
) -> None:
    for needed in (None, 1000.0):
        assert host.loaded == [model.weights]
        assert model.weights.loaded_size() > 1000
        host.free_memory(needed)
        assert model.weights.loaded_size() == 0
        nodes["PhonofilmGenerate"].run(model=model, size="32x32", seconds=0.2, **SMALL)
        assert model.session.is_loaded


def test_an_interrupt_is_heard_within_a_step_and_the_next_run_is_whole(
    nodes: dict[str, Any], model: Any, video: Any, host: Host
) -> None:
    words = {"size": "32x32", "seconds": 0.4, **SMALL}
    for modules in (3, 100):  # while the prompt is encoded, and in the middle of the first step
        host.progress.clear()
        host.stop_after = modules
        with pytest.raises(Interrupted):
            nodes["PhonofilmGenerate"].run(model=model, **words)
        assert not host.progress
        assert model.session.is_loaded
    assert not torch.nn.modules.module._global_forward_pre_hooks
    again = nodes["PhonofilmGenerate"].run(model=model, **words).result
    assert torch.equal(again[1], video.get_components().images)


@pytest.mark.parametrize("where", ["weights", "step", "decoder"])
def test_a_run_without_enough_memory_says_what_to_do_and_the_next_one_is_whole(
    where: str, nodes: dict[str, Any], model: Any, video: Any, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    words = {"size": "32x32", "seconds": 0.4, **SMALL}
    other = Loaded()
    host.loaded.append(other)
    with monkeypatch.context() as patched:
        if where == "weights":
            model.session.close()
            patched.setattr("phonofilm.generation.clip_maker.load_pipeline", full)
        else:
            targets = ("phonofilm.models.joint.JointDenoiser.layer",)
            if where == "decoder":  # small clips go through it in one pass, which is ours
                targets = ("diffusers.AutoencoderKLWan.decode", "phonofilm.models.one_pass.OnePass.decode")
            for target in targets:
                patched.setattr(target, full)
        with pytest.raises(
            OutOfMemoryError, match=r"try a smaller size, fewer frames, .*node can be run again; offload"
        ):
            nodes["PhonofilmGenerate"].run(model=model, **words)
    assert not model.session.is_loaded
    assert other.left  # for the next run to have room
    again = nodes["PhonofilmGenerate"].run(model=model, **words).result
    assert torch.equal(again[1], video.get_components().images)


class Loaded:
    """Another node's model in ComfyUI's list."""

    left = False

    def loaded_size(self) -> int:
        return 1

    def model_size(self) -> int:
        return 1

    def detach(self, unpatch_all: bool) -> None:
        self.left = True


@pytest.mark.parametrize(
    ("node", "broken", "message"),
    [
        ("Generate", {"size": "350x350"}, "height 350 is not a multiple of 16; use 352"),
        ("Generate", {"prompt": " "}, "the prompt is empty"),
        ("Generate", {"prompt": "0-1: a; 2-3: b"}, "the prompt of 2-3 s should begin at 1 s"),
        ("Generate", {"image": torch.zeros(1, 8, 8, 1)}, "image is an array of shape"),
        ("Generate", {"image": torch.full((1, 8, 8, 3), torch.nan)}, "image holds values from nan to nan"),
        ("Generate", {"image": torch.zeros(1, 0, 8, 3)}, "image has shape (0, 8, 3), which is empty"),
        ("Generate", {"image": torch.zeros(0, 8, 8, 3)}, "the IMAGE is an empty batch, of shape (0, 8, 8, 3)"),
        (
            "Generate",
            {"voice": {"waveform": torch.zeros(0, 1, 9), "sample_rate": 16000}},
            "the AUDIO is an empty batch",
        ),
        ("Generate", {"voice": {"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000}}, "voice has shape (1, 0)"),
        ("Generate", {"voice": {"waveform": torch.zeros(1, 1, 480000), "sample_rate": 16000}}, "at most half"),
        ("Generate", {"keyframes": {9.0: torch.zeros(1, 8, 8, 3)}}, "keyframe at 9 s is outside the clip"),
        (
            "PictureForSound",
            {"audio": {"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000}},
            "audio has shape (1, 0)",
        ),
        (
            "PictureForSound",
            {"audio": {"waveform": torch.full((1, 1, 16000), torch.inf), "sample_rate": 16000}},
            "audio holds values that are not finite",
        ),
        ("PictureForSound", {"audio": None}, "the AUDIO is none"),
        ("Continue", {"video": "silent"}, "the VIDEO has no sound; give it one first with Phonofilm Sound for a Video"),
        ("SoundForVideo", {"video": "not numbers"}, "the frames of the VIDEO hold values that are not numbers"),
        ("Retake", {"stretches": "0.1:0.2", "video": "silent"}, "the VIDEO has no sound"),
        ("Retake", {"stretches": "8:9", "video": "sounding"}, "not a stretch of a clip of 0.375 s"),
        ("Retake", {"stretches": "soon", "video": "sounding"}, "retake 'soon' is not START:END"),
    ],
)
def test_a_broken_input_is_an_error_that_says_what_was_given(
    node: str, broken: dict[str, Any], message: str, nodes: dict[str, Any], model: Any, video: Any
) -> None:
    parts = video.get_components()
    without = {"silent": {"audio": None}, "not numbers": {"images": parts.images * torch.nan}}
    videos = {"sounding": video} | {name: VideoFromComponents(replace(parts, **one)) for name, one in without.items()}
    given = {name: videos[one] if name == "video" else one for name, one in broken.items()}
    with pytest.raises(InputError, match=re.escape(message)):
        nodes[f"Phonofilm{node}"].run(model=model, **SMALL | given)
    assert model.session.is_loaded


def test_pictures_are_held_at_times_and_a_voice_stands_before_the_clip(
    nodes: dict[str, Any], model: Any, video: Any
) -> None:
    given = video.get_components()
    first, last = (torch.full((1, 32, 32, 3), level) for level in (0.2, 0.8))
    (one,) = nodes["PhonofilmKeyframe"].run(image=first, seconds=0.1).result
    (both,) = nodes["PhonofilmKeyframe"].run(image=last, seconds=0.35, keyframes=one).result
    assert list(both) == [0.1, 0.35]
    words = {"size": "32x32", "seconds": 0.4, **SMALL}
    shown = nodes["PhonofilmGenerate"].run(model=model, keyframes=both, **words).result
    assert "2 keyframes given" in shown[3]
    assert not torch.equal(shown[1], given.images)
    spoken = nodes["PhonofilmGenerate"].run(model=model, voice=given.audio, **words).result
    assert "after a voice of 0.38 s" in spoken[3]
    assert spoken[1].shape == given.images.shape
    sound = {"model": model, "audio": given.audio, "size": "32x32", **SMALL}
    led, held = (nodes["PhonofilmPictureForSound"].run(**sound, keyframes=shown).result for shown in (None, one))
    assert not torch.equal(led[1], held[1])
    assert "picture for a given sound, 1 keyframe given" in held[3]
    assert "keyframe" not in led[3]


def test_a_video_is_examined(nodes: dict[str, Any], video: Any) -> None:
    done = nodes["PhonofilmInspect"].run(video=video)
    assert "32x32, 9 frames at 24 per second" in done.result[0]
    assert "1 channel at 48000 Hz" in done.result[0]
    assert done.ui == done.result[0]


class Broken(ModuleType):
    """Phonofilm where a package under it does not fit: what it gives is imported on first use, and fails then."""

    def __getattr__(self, name: str) -> Any:
        try:
            raise ImportError("cannot import name 'InterpolationMode' from 'torchvision.transforms'")
        except ImportError as error:
            raise RuntimeError("Failed to import diffusers.models (look up to see its traceback)") from error


@pytest.mark.parametrize(
    ("module", "content", "message"),
    [
        ("phonofilm", None, r"^Phonofilm is not installed in ComfyUI's Python .*Run: \S+ -m pip install -e \".+\"$"),
        ("comfy_api.latest", None, r"^this ComfyUI has no comfy_api.latest. The nodes need ComfyUI 0.3.64 or later"),
        (
            "phonofilm",
            Broken("phonofilm"),
            r"^Phonofilm cannot be imported: ImportError: cannot import name 'Interp.* torch \d",
        ),
    ],
)
def test_a_pack_that_cannot_be_imported_says_what_is_missing_in_one_line(
    module: str, content: ModuleType | None, message: str, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, content)
    with pytest.raises(ImportError, match=message) as raised, imported("custom_nodes_without"):
        pass
    assert "\n" not in str(raised.value)


def test_seed_0_is_a_seed_and_runs_through_what_comfyui_draws(nodes: dict[str, Any], model: Any) -> None:
    (seed,) = [one for one in nodes["PhonofilmGenerate"].define_schema().inputs if one.id == "seed"]
    assert seed.options["control_after_generate"]
    plan = nodes["PhonofilmGenerate"].run(model=model, size="32x32", seconds=0.2, **SMALL | {"seed": 0}).result[3]
    assert "seed 0" in plan


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.stem)
def test_an_example_fits_the_nodes(example: Path, nodes: dict[str, Any]) -> None:
    graph = json.loads(example.read_text(encoding="utf-8"))
    for node in graph["nodes"]:
        if node["type"] in CORE:
            names, values = CORE[node["type"]]
            widgets: list[Any] = [None] * values
        else:
            schema = nodes[node["type"]].define_schema()
            names = [one.id for one in schema.inputs if not one.widget]
            seeds = sum(one.options.get("control_after_generate", False) for one in schema.inputs)
            widgets = [one for one in schema.inputs if one.widget] + [None] * seeds
            required = {one.id for one in schema.inputs if not one.widget and not one.optional}
            assert required <= {one["name"] for one in node["inputs"] if one["link"] is not None}
            assert [one["type"] for one in node["outputs"]] == [one.kind for one in schema.outputs]
        assert [one["name"] for one in node["inputs"]] == names
        assert len(node["widgets_values"]) == len(widgets)
    assert example.with_suffix(".jpg").is_file()


def test_the_pack_says_what_comfyuis_registry_asks(nodes: dict[str, Any]) -> None:
    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"PublisherId", "DisplayName", "requires-comfyui"} <= set(project["tool"]["comfy"])
    readme = (PACK / "README.md").read_text(encoding="utf-8")
    assert all(node.define_schema().display_name in readme for node in nodes.values())
    assert (PACK / "LICENSE").is_file()
