"""The YAML of a fine-tuning: overrides, unknown keys, keys that would do nothing, optimizers that are not installed."""

from __future__ import annotations

import builtins
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from phonofilm.data.yaml_files import parse_yaml
from phonofilm.errors import InputError, MissingExtraError
from phonofilm.training.config.config_files import READY, parse_config, read_config
from phonofilm.training.config.distill_config import DistillConfig
from phonofilm.training.config.finetune_config import FinetuneConfig, as_plain
from phonofilm.training.config.training_config import OptimizerConfig
from phonofilm.training.loop.optimizers import build_optimizers

DATA = (Path("clips"),)


@pytest.mark.parametrize("name", READY)
def test_ready_configs_are_complete(name: str) -> None:
    config = read_config(name, data=DATA)
    assert [told.path for told in config.data.sets] == list(DATA)
    modes = {"low_resource": "low_resource", "distill": "low_resource", "fsdp": "fsdp"}
    assert config.mode == modes.get(name, "accelerate")
    assert list(config.parts) == (["bridge"] if name == "bridge_only" else ["high", "low", "audio", "bridge"])


def test_overrides_reach_any_key_and_the_file_that_is_written_means_the_same_run(tmp_path: Path) -> None:
    settings = ("lora.high.rank=8", "lora.low=null", "experts=high", "optimizer.lr=2e-4", "data.buckets=[64x64x9]")
    config = read_config("nano", settings, DATA)
    assert (config.lora.high.rank, config.lora.low, config.optimizer.lr) == (8, None, 2e-4)
    assert config.data.buckets == ("64x64x9",)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(as_plain(config)))
    assert read_config(str(file)) == config


def test_values_are_what_they_look_like(tmp_path: Path) -> None:
    """YAML 1.1 takes no for false, 010 for 8, 1:30 for 90, yes for true and a date for an object."""
    text = "a: no\nb: 010\nc: 1:30\nd: 2026-11-28\ne: 1e-4\nf: true\ng: ~\nh:\ni: -3\nj: .inf\nk: 'no'\nl: 1e3\nm: on\n<<: x\n"
    found = parse_yaml(text, "x")
    assert found == {
        "a": "no", "b": 10.0, "c": "1:30", "d": "2026-11-28", "e": 1e-4, "f": True, "g": None, "h": None, "i": -3,
        "j": float("inf"), "k": "no", "l": 1000.0, "m": "on", "<<": "x",
    }  # fmt: skip
    assert read_config("nano", ["precision=no", "gradient_checkpointing=no", "max_steps=010"], DATA).max_steps == 10


@pytest.mark.parametrize("text", ["a: 1\na: 2", "b: {a: 1, a: 2}", "a: 1\nb: 2\n'a': 3", "- {x: 1, x: 1}"])
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    """The last one counted, silently: a rate changed at the top of a file did nothing."""
    with pytest.raises(InputError, match=r"the key '[ax]' stands there twice"):
        parse_yaml(text, "c.yaml")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.learning_rate=1", r"optimizer\.learning_rate: unknown key"),
        ("lora.high.ranks=4", r"lora\.high\.ranks: unknown key"),
        ("batch_size=0", "batch_size: .*given 0"),
        ("experts=low", r"lora\.high would be ignored: experts is low; set lora\.high=null"),
        ("high_share=0.3", "high_share would be ignored: experts is not weighted"),
        ("optimizer.muon_lr=0.1", r"optimizer\.muon_lr would be ignored: optimizer\.name is adamw"),
        ("objective.timesteps.boundary_ratio=0.8", r"boundary_ratio would be ignored: it is the checkpoint's own"),
        ("objective.timesteps.logit_std=2", "logit_std would be ignored: the density is uniform"),
        ("data.seed=3", r"data\.seed would be ignored: windows are not random"),
        ("lora.bridge.ffn=true", "the bridge has no feed-forward layers"),
        ("activation_offload=true", "activation_offload needs gradient_checkpointing"),
        ("full.high={}", "give either lora or full"),
        ("base_dtype", "expected KEY.SUB=VALUE"),
        ("seed.x=1", "seed is a value|seed: "),
        ("context_parallel=0", "context_parallel"),
        ("ulysses_degree=2", "ulysses_degree would be ignored: context_parallel is 1"),
        ("ring=2", "ring"),
        ("optimizer.lr=.inf", r"optimizer\.lr: .*finite"),
        ("objective.video_weight=.nan", r"objective\.video_weight"),
        ("seed=-1", "seed: "),
        ("seed=99999999999999999999", "seed: "),
        ("trigger_word=''", "trigger_word is empty"),
        ('trigger_word="a\\nb"', "several lines"),
        ("=5", "expected KEY"),
    ],
)
def test_what_is_unknown_or_would_be_ignored_is_an_error_that_names_it(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config("nano", [setting], DATA)


def test_adapters_dropout_is_refused_where_processes_share_a_clip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lora\.dropout with context_parallel: .* set lora\.dropout=0"):
        read_config("accelerate", ["context_parallel=2", "lora.dropout=0.1"], [tmp_path])


def test_a_config_needs_data_and_a_file() -> None:
    with pytest.raises(InputError, match="name a folder of clips with --data"):
        read_config("nano")
    with pytest.raises(InputError, match="neither a file nor one of low_resource"):
        read_config("nonsense", data=DATA)
    with pytest.raises(InputError, match=r"data\.buckets would be ignored: no clips were given"):
        parse_config({"max_steps": 1, "lora": {"high": {}}, "data": {"cache": "c", "buckets": ["64x64x9"]}}, "test")


def descended(name: str, **changes: Any) -> float:
    """How near 60 updates bring a matrix to a target, from 1."""
    weight = torch.nn.Parameter(torch.zeros(6, 6))
    target = torch.eye(6)
    optimizers = build_optimizers([("high.video.blocks.0.q.weight", weight)], OptimizerConfig(name=name, **changes))
    for _ in range(60):
        loss = (weight - target).square().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return float((weight.detach() - target).square().mean() / target.square().mean())


@pytest.mark.parametrize(("name", "lr"), [("adamw", 0.05), ("muon", 0.05), ("adafactor", 0.05)])
def test_optimizers_by_name_descend(name: str, lr: float) -> None:
    assert descended(name, lr=lr, weight_decay=0.0) < 0.3


def test_eps_damps_updates_from_gradients_below_it() -> None:
    assert descended("adamw", lr=0.05, weight_decay=0.0, eps=100.0) > 0.9
    with pytest.raises(InputError, match=r"optimizer\.eps.*adafactor has its own two"):
        read_config("nano", ["optimizer.name=adafactor", "optimizer.eps=1e-6"], DATA)


def test_prodigy_descends_by_a_rate_it_finds() -> None:
    pytest.importorskip("prodigyopt")
    assert descended("prodigy", lr=1.0, weight_decay=0.0) < 0.9
    with pytest.raises(InputError, match="prodigy has one rate for everything"):
        read_config("nano", ["optimizer.name=prodigy", "lora.audio.lr=1"], DATA)


@pytest.mark.parametrize(("name", "package"), [("adamw8bit", "bitsandbytes"), ("prodigy", "prodigyopt")])
def test_an_optimizer_without_its_library_says_what_to_install(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = builtins.__import__

    def without(module: str, *rest: Any, **named: Any) -> Any:
        if module.startswith(package):
            raise ImportError(module)
        return ordinary(module, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        MissingExtraError, match=rf"{package} is not installed; run: pip install 'phonofilm\[optimizers\]'"
    ):
        descended(name)


def test_the_trainings_that_the_few_steps_page_prints_are_accepted() -> None:
    page = (Path(__file__).parents[2] / "docs" / "few-steps.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("phonofilm train")]
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line, comments=True)
        given = dict(pairwise(words))
        data = [Path(given["--data"])] if "--data" in given else []
        config = read_config(given["--config"], [word for word in words if "=" in word], data)
        assert config.distill is not None
    with pytest.raises(InputError, match="hold a clip's own track"):
        read_config("distill_nano", ["distill.captions=captions.jsonl", "objective.hold_video=0.1"])
    assert read_config("distill_nano", ["distill.captions=c.txt"]).distill == DistillConfig(
        captions=Path("c.txt"), substeps=2
    )


@pytest.mark.parametrize("section", ["samples", "validation"])
def test_null_takes_the_section_of_what_is_looked_at_away(section: str) -> None:
    config = read_config("distill", ["data.cache=x", f"{section}=null"])
    assert isinstance(config, FinetuneConfig)
    assert getattr(config, section).every == 0
