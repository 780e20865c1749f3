"""As much of ComfyUI's V3 API as our nodes touch, for tests without ComfyUI, which is no package and under the GPL.

Written from its documentation; the nodes were tried in the real one by hand (integrations/comfyui/README.md says how). It is
stricter than the real one: an input without a widget must be connected, a value must be one of a list's.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


class InputOf:
    """One input of a node. widget: whether it has a value of its own in the graph."""

    def __init__(self, kind: str, widget: bool, name: str, optional: bool = False, **options: Any) -> None:
        known = {"tooltip", "display_name", "default"}
        known |= {
            "INT": {"min", "max", "step", "control_after_generate"},
            "FLOAT": {"min", "max", "step"},
            "STRING": {"multiline", "dynamic_prompts"},
            "COMBO": {"options"},
        }.get(kind, set())
        assert not set(options) - known, f"{kind} input {name}: unknown {set(options) - known}"
        self.kind, self.widget, self.id, self.optional, self.options = kind, widget, name, optional, options

    def default(self) -> Any:
        return self.options.get("default", self.options.get("options", [""])[0])


def kind_of(name: str, widget: bool = False) -> type:
    """A type with its Input and Output, as `io.Image` or `io.Custom("X")` are."""

    class Kind:
        io_type = name

        class Output:
            def __init__(self, id: str | None = None, display_name: str | None = None) -> None:
                self.kind, self.display_name = name, display_name

        @staticmethod
        def Input(id: str, **options: Any) -> InputOf:
            return InputOf(name, widget, id, **options)

    return Kind


@dataclass
class Schema:
    node_id: str
    display_name: str
    category: str
    inputs: list[InputOf]
    outputs: list[Any]
    description: str = ""
    is_output_node: bool = False

    def __post_init__(self) -> None:
        names = [one.id for one in self.inputs]
        assert len(names) == len(set(names)), f"{self.node_id} has an input twice"


class NodeOutput:
    def __init__(self, *result: Any, ui: Any = None) -> None:
        self.result, self.ui = result, ui


class ComfyNode(ABC):
    @classmethod
    @abstractmethod
    def define_schema(cls) -> Schema: ...

    @classmethod
    def run(cls, **given: Any) -> NodeOutput:
        """Execute with the schema's defaults where nothing is given, after ComfyUI's own checks."""
        schema, values = cls.define_schema(), dict(given)
        assert not set(values) - {one.id for one in schema.inputs}, f"{schema.node_id} has no such input"
        for one in schema.inputs:
            if one.id not in values and not (one.optional and not one.widget):
                assert one.widget, f"{schema.node_id}: {one.id} is not connected"
                values[one.id] = one.default()
            if one.kind == "COMBO":
                assert values[one.id] in one.options["options"], f"{values[one.id]} is not in the list of {one.id}"
        result: NodeOutput = cls.execute(**values)  # type: ignore[attr-defined]
        assert len(result.result) == len(schema.outputs)
        return result


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self) -> list[type[ComfyNode]]: ...


@dataclass
class VideoComponents:
    images: Any
    frame_rate: Fraction
    audio: dict[str, Any] | None = None


@dataclass
class VideoFromComponents:
    components: VideoComponents

    def get_components(self) -> VideoComponents:
        return self.components


class Interrupted(Exception):
    """ComfyUI's own, raised where a node asks whether the user has stopped the run."""


@dataclass
class Host:
    """What a test sees of ComfyUI: progress as (value, maximum, preview), models that took memory, a wish to stop.

    stop_after: how often a node may still ask whether the user has stopped the run before it is told so; None for never.
    """

    progress: list[tuple[float, float, Any]] = field(default_factory=list)
    loaded: list[Any] = field(default_factory=list)
    stop_after: int | None = None

    def stop_if_asked(self) -> None:
        if self.stop_after is None:
            return
        self.stop_after -= 1
        if self.stop_after < 0:
            self.stop_after = None
            raise Interrupted

    def load_models(self, models: list[Any]) -> None:
        for model in models:
            assert model.parent is None
            if model not in self.loaded:
                model.partially_load(model.load_device, 0)
                self.loaded.append(model)

    def free_memory(self, needed: float | None = None) -> None:
        """As ComfyUI's free_memory does for a node that needs so many bytes, or, without a number, for all that is loaded."""
        staying = []
        for model in self.loaded:
            assert model.loaded_size() <= model.model_size()
            if needed is not None and needed < model.loaded_size() and model.partially_unload(None, needed) >= needed:
                staying.append(model)  # in the list, though its weights have left
            else:
                model.detach(True)
        self.loaded = staying


@contextmanager
def comfyui(models: Path) -> Iterator[Host]:
    """The API's modules, importable; `models` is ComfyUI's folder of models."""
    host = Host()

    class Execution:
        @staticmethod
        def set_progress(value: float, max_value: float, preview_image: Any = None) -> None:
            host.progress.append((value, max_value, preview_image))

    class ComfyAPISync:
        execution = Execution

    widgets = {"Int": "INT", "Float": "FLOAT", "String": "STRING", "Combo": "COMBO", "Boolean": "BOOLEAN"}
    kinds = {"Image": "IMAGE", "Video": "VIDEO", "Audio": "AUDIO"}
    io = _module(
        "comfy_api.latest.io",
        **{name: kind_of(kind, widget=True) for name, kind in widgets.items()},
        **{name: kind_of(kind) for name, kind in kinds.items()},
        Custom=kind_of,
        Schema=Schema,
        ComfyNode=ComfyNode,
        NodeOutput=NodeOutput,
        Input=InputOf,
        Output=object,
    )
    latest = _module(
        "comfy_api.latest",
        io=io,
        ui=_module("comfy_api.latest.ui", PreviewText=str),
        ComfyExtension=ComfyExtension,
        ComfyAPISync=ComfyAPISync,
        Input=_module("Input", Video=VideoFromComponents),
        InputImpl=_module("InputImpl", VideoFromComponents=VideoFromComponents),
        Types=_module("Types", VideoComponents=VideoComponents),
    )
    management = _module(
        "comfy.model_management",
        load_models_gpu=host.load_models,
        unload_all_models=host.free_memory,
        get_torch_device=lambda: torch.device("cpu"),
        throw_exception_if_processing_interrupted=host.stop_if_asked,
    )
    loras = models / "loras"
    folders = _module(
        "folder_paths",
        models_dir=str(models),
        get_filename_list=lambda kind: sorted(one.name for one in (models / kind).glob("*")),
        get_full_path_or_raise=lambda kind, name: str(loras / name),
    )
    comfy = _module("comfy", model_management=management, __path__=[])
    api = _module("comfy_api", latest=latest, __path__=[])
    modules = [comfy, management, api, latest, folders]
    sys.modules.update({one.__name__: one for one in modules})
    try:
        yield host
    finally:
        for one in modules:
            del sys.modules[one.__name__]


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module
