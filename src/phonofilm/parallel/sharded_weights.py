"""Weights in parts: every rank keeps 1/world of each fused layer and gathers a layer when it is needed (FSDP2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.shared_forward import Conditioning, StepInputs, forward_many
from phonofilm.parallel.mesh import Mesh


class ShardedWeights(nn.Module):
    """Cuts the layers of `denoisers` over all ranks, moving them to the mesh's device one module at a time.

    What surrounds the layers (embeddings, heads) stays whole. Each module's parameters must have one dtype.
    """

    def __init__(self, denoisers: Sequence[JointDenoiser], mesh: Mesh) -> None:
        super().__init__()
        self.denoisers = nn.ModuleList(denoisers)
        layers = [[list(one.layer_modules(index)) for index in range(one.num_layers)] for one in denoisers]
        for module in dict.fromkeys(module for expert in layers for layer in expert for module in layer):
            fully_shard(module, mesh=mesh.world, reshard_after_forward=False)
        cut = {id(p) for module in self.modules() if isinstance(module, FSDPModule) for p in module.parameters()}
        whole = {parameter for parameter in self.parameters() if id(parameter) not in cut}
        # The root is what ties the layers' streams together; it keeps no parameters of its own.
        fully_shard(self, mesh=mesh.world, ignored_params=whole)
        for expert in layers:
            for (block, *_), following in pairwise(expert):
                assert isinstance(block, FSDPModule)
                # The video block computes longest, and belongs to one expert: the next layer arrives meanwhile.
                block.set_modules_to_forward_prefetch([m for m in following if isinstance(m, FSDPModule)])

    def forward(self, evaluate: Callable[[], list[JointOutput]]) -> list[JointOutput]:
        return evaluate()

    def forward_many(
        self, denoiser: JointDenoiser, inputs: StepInputs, conditionings: Sequence[Conditioning]
    ) -> list[JointOutput]:
        """As `shared_forward.forward_many`; each layer is gathered once for all conditionings. Every rank must call it."""

        @contextmanager
        def gathered(index: int) -> Iterator[None]:
            yield
            for module in denoiser.layer_modules(index):
                assert isinstance(module, FSDPModule)
                module.reshard()

        outputs: list[JointOutput] = self(lambda: forward_many(denoiser, inputs, conditionings, gathered))
        return outputs
