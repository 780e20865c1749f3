"""The private names of libraries that we use (docs/decisions/0007) are still there."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo
from diffusers import DiffusionPipeline
from diffusers.models import attention_dispatch
from transformers import UMT5EncoderModel


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (torch._C, "_current_graph_task_id"),
        (torch, "_fused_sdp_choice"),
        (torch, "_addmm_activation"),
        (torch, "_scaled_mm"),
        *((torch, f"_foreach_{name}_") for name in ("lerp", "mul", "add", "copy")),
        (torch._dynamo.config, "recompile_limit"),
        *((torch.nn.Linear(1, 1), name) for name in ("_parameters", "_forward_hooks", "_forward_pre_hooks")),
        (attention_dispatch, "_check_attention_backend_requirements"),
        (DiffusionPipeline, "_execution_device"),
        (UMT5EncoderModel, "_keep_in_fp32_modules"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_private_name_is_there(owner: object, name: str) -> None:
    assert hasattr(owner, name)
