"""A run's saved config is read back whole, whatever was switched off in it."""

from __future__ import annotations

from phonofilm.training.checkpointing.run_state import refuse_other_run
from phonofilm.training.config.finetune_config import FinetuneConfig


def test_a_run_without_validation_can_be_resumed() -> None:
    config = FinetuneConfig.model_validate(
        {"data": {"cache": "cache"}, "lora": {"audio": {}}, "max_steps": 1, "validation": {"every": 0}}
    )
    state = {"config": config.model_dump(mode="json"), "content": "clips", "processes": 1}
    refuse_other_run(state, config, "clips", 1, ())
