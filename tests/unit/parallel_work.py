"""What the ranks of the parallel tests do: one process group per world size, many comparisons with one rank inside it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from multiprocessing import parent_process
from types import FrameType

import torch
import torch.distributed as dist
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from phonofilm.errors import InputError
from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser, JointOutput
from phonofilm.models.shared_forward import Conditioning, StepInputs, forward_one
from phonofilm.models.video import Grid, WanModel
from phonofilm.parallel.degrees import Degrees
from phonofilm.parallel.mesh import Mesh, make_mesh
from phonofilm.parallel.parallel_decoder import ParallelDecoder, assist_decoding
from phonofilm.parallel.parallel_engine import ParallelEngine
from phonofilm.parallel.rank import PATIENCE, Rank, broadcast_number, process_group
from phonofilm.parallel.sequence_denoiser import shard_sequence
from phonofilm.parallel.sequence_shard import SequenceShard
from phonofilm.parallel.sharded_weights import ShardedWeights

CPU = torch.device("cpu")
# Token counts: two primes, fewer than a run would have rows, and one that no degree divides evenly.
GRIDS: tuple[Grid, ...] = ((13, 1, 1), (1, 1, 37), (3, 5, 2), (1, 1, 5))
AUDIO_TOKENS = 11


@dataclass(frozen=True)
class Compared:
    """How far the ranks' outputs are from one rank's, relative to its largest value, and whether all ranks agree."""

    what: str
    error: float
    same_on_all_ranks: bool


def experts(pooled: bool = False) -> list[JointDenoiser]:
    """Two experts around one audio tower and bridge; four heads; the last video layer runs alone."""
    torch.manual_seed(5)
    tower = {"ffn_dim": 40, "out_dim": 4, "text_dim": 16, "freq_dim": 16, "eps": 1e-6}
    video = tower | {"dim": 48, "in_dim": 8, "num_heads": 4, "num_layers": 3, "patch_size": (1, 2, 2)}
    audio = WanAudioModel(**tower, dim=24, in_dim=4, num_heads=2, num_layers=2, patch_size=(1,), vae_type="dac")
    bridge = DualTowerConditionalBridge(
        visual_layers=3,
        audio_layers=2,
        visual_hidden_dim=48,
        audio_hidden_dim=24,
        audio_fps=50.0,
        head_dim=12,
        interaction_strategy="full",
        apply_cross_rope=True,
        pooled_adaln=pooled,
    )
    both = [JointDenoiser(WanModel(**video), audio, bridge) for _ in range(2)]
    for one in both:
        one.eval().requires_grad_(False)
    return both


def inputs(grid: Grid) -> StepInputs:
    draw = torch.Generator().manual_seed(6)
    video = torch.randn(1, 8, grid[0], 2 * grid[1], 2 * grid[2], generator=draw)
    audio = torch.randn(1, 4, AUDIO_TOKENS, generator=draw)
    return StepInputs(video, audio, torch.tensor(800.0), torch.tensor(600.0), 24.0)


def conditionings() -> list[Conditioning]:
    """The three evaluations of dual guidance: an odd number, so that two halves do not get equal shares."""
    text = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(7))
    return [Conditioning(text), Conditioning(text.flip(1), torch.zeros(1, 6)), Conditioning(text, bridge_scale=0.0)]


def on_one_rank(denoiser: JointDenoiser, grid: Grid) -> list[JointOutput]:
    with torch.no_grad():
        return [forward_one(denoiser, inputs(grid), conditioning) for conditioning in conditionings()]


def compare(what: str, ours: list[JointOutput], theirs: list[JointOutput]) -> Compared:
    return _compare_tensors(what, _flat(ours), _flat(theirs))


def _compare_tensors(what: str, flat: Tensor, expected: Tensor) -> Compared:
    assert flat.shape == expected.shape
    error = float((flat - expected).abs().max() / expected.abs().max())
    every = [torch.empty_like(flat) for _ in range(dist.get_world_size())]
    dist.all_gather(every, flat)
    return Compared(what, error, all(torch.equal(one, every[0]) for one in every))


def _flat(outputs: list[JointOutput]) -> Tensor:
    return torch.cat([t.flatten() for output in outputs for t in (output.video, output.audio)])


def all_meshes(world: int) -> list[Degrees]:
    """Every mesh of `world` ranks that four heads allow, CFG-parallel over two halves at most."""
    sides = product((1, 2), range(1, world + 1), (1, 2, 4))
    return [degrees for degrees in (Degrees(*side) for side in sides) if degrees.world == world]


def engine(mesh: Mesh, pooled: bool = False) -> ParallelEngine:
    high, low = shard_sequence(experts(pooled), SequenceShard(mesh))
    return ParallelEngine({"high": high, "low": low}, mesh)


def compare_everything(rank: Rank) -> list[Compared]:
    """All meshes of this world, all token counts, both kinds of bridge, sharded weights; against one rank's forwards."""
    torch.set_num_threads(1)
    with process_group(rank, CPU):
        done: list[Compared] = []
        alone = {grid: on_one_rank(experts()[0], grid) for grid in GRIDS}
        for degrees in all_meshes(rank.world):
            mesh = make_mesh(degrees, CPU)
            parallel = engine(mesh)
            done += [
                compare(f"{degrees}, {grid}", parallel("high", inputs(grid), conditionings(), "low"), alone[grid])
                for grid in GRIDS
            ]
        mesh = make_mesh(all_meshes(rank.world)[0], CPU)
        pooled = engine(mesh, pooled=True)("low", inputs(GRIDS[0]), conditionings(), "low")
        done.append(compare("pooled bridge", pooled, on_one_rank(experts(pooled=True)[1], GRIDS[0])))
        done += _compare_sharded_weights(mesh)
        return done


def compare_gradients(rank: Rank) -> list[Compared]:
    """All meshes and token counts: every weight's gradient of one loss, the mean over the ranks; with checkpointing too."""
    torch.set_num_threads(1)
    with process_group(rank, CPU):
        done: list[Compared] = []
        cases = [(grid, False, False) for grid in GRIDS] + [(GRIDS[2], True, False), (GRIDS[0], False, True)]
        alone = {case: _gradients(experts(case[2])[0], *case[:2]) for case in cases}
        for degrees in all_meshes(rank.world):
            mesh = make_mesh(degrees, CPU)
            for case in cases:
                high, _ = shard_sequence(experts(case[2]), SequenceShard(mesh))
                ours = _gradients(high, *case[:2])
                dist.all_reduce(ours)
                done.append(_compare_tensors(f"{degrees}, {case}", ours / rank.world, alone[case]))
        return done


def _gradients(denoiser: JointDenoiser, grid: Grid, checkpointing: bool) -> Tensor:
    """Of a loss that every part of both outputs has a say in; the bridge is cut for the second of two samples."""
    denoiser.requires_grad_(True)
    one, text = inputs(grid), conditionings()[0].text
    video, audio = (torch.cat((t, t.flip(1))) for t in (one.video_latents, one.audio_latents))
    times, scale = torch.tensor([800.0, 300.0]), torch.tensor([1.0, 0.0])
    output = denoiser(video, audio, times, times, text, 24.0, bridge_scale=scale, gradient_checkpointing=checkpointing)
    (output.video.square().mean() + 0.7 * output.audio.square().mean()).backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in denoiser.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients])


def _compare_sharded_weights(mesh: Mesh) -> list[Compared]:
    high, low = shard_sequence(experts(), SequenceShard(mesh))
    whole = sum(p.numel() for p in high.video.blocks.parameters())
    weights = ShardedWeights([high, low], mesh)
    parallel = ParallelEngine({"high": high, "low": low}, mesh, weights)
    done = []
    for name, turn in (("high", 0), ("low", 1), ("high", 0)):
        ours = parallel(name, inputs(GRIDS[0]), conditionings(), "low")  # type: ignore[arg-type]
        done.append(compare(f"sharded weights, {name}", ours, on_one_rank(experts()[turn], GRIDS[0])))
        held = sum(_local_numel(p) for p in high.video.blocks.parameters())
        # A block's modulation has one row, which one rank keeps.
        too_much = held / whole > 1 / mesh.degrees.world + 0.02
        done.append(Compared(f"weights held after {name}: {held} of {whole}", float(too_much), True))
    return done


def video_vae() -> AutoencoderKLWan:
    torch.manual_seed(8)
    vae = AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, latents_mean=[0.1] * 4, latents_std=[2.0] * 4
    )
    return vae.eval().requires_grad_(False)


def compare_decoding(rank: Rank) -> list[Compared]:
    """Whole and in tiles, by all ranks; heights in latents that divide evenly, do not, and are less than the ranks."""
    torch.set_num_threads(1)
    with process_group(rank, CPU):
        mesh = make_mesh(Degrees(ring=rank.world), CPU)
        alone, together = video_vae(), video_vae()
        ParallelDecoder(together, mesh.everyone)
        done = []
        for tiled in (False, True):
            for vae in (alone, together):
                if tiled:
                    vae.enable_tiling(32, 32, 24, 24)  # pixels: tiles of 4 rows of latents, a new one every 3
            for rows in (1, 4, 7):
                latents = torch.randn(1, 4, 3, rows, 5, generator=torch.Generator().manual_seed(rows))
                expected, ours = alone.decode(latents).sample, together.decode(latents).sample
                done.append(_compare_tensors(f"{rows} rows, tiled {tiled}", ours, expected))
        return done


def rows_seen(rank: Rank) -> list[int]:
    """How many rows the first rank's last convolution has, neighbours' included, of the 72 there are."""
    torch.set_num_threads(1)
    seen: list[int] = []
    with process_group(rank, CPU):
        vae = video_vae()
        ParallelDecoder(vae, make_mesh(Degrees(ring=rank.world), CPU).everyone)
        vae.decoder.conv_out.register_forward_hook(lambda _, args, out: seen.append(args[0].shape[-2]))
        assist_decoding(vae, torch.zeros(1, 4, 2, 9, 5))
        return seen


def _local_numel(parameter: nn.Parameter) -> int:
    return parameter.to_local().numel()  # type: ignore[operator]


def first_numbers(rank: Rank) -> tuple[int, int]:
    """The number that ranks agree on, of numbers that differ; and the world."""
    with process_group(rank, CPU):
        return broadcast_number(100 + rank.number), dist.get_world_size()


def one_is_killed(rank: Rank) -> None:
    """Rank 1 is killed while the others are in an exchange with it."""
    with process_group(rank, CPU):
        if rank.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.all_reduce(torch.ones(1))
        time.sleep(3600)  # the test waits this long if nobody ends this rank


def one_hangs(rank: Rank) -> None:
    """Rank 1 does not come to the exchange, and does not end; rank 0 does not wait long, wherever it waits."""
    with process_group(rank, CPU, timedelta(seconds=5) if rank.is_first else PATIENCE):
        dist.barrier()
        if rank.number == 1:
            time.sleep(3600)  # the test waits this long if nobody ends this rank
        dist.all_reduce(torch.ones(1))


class Asked(Exception):
    """SIGTERM has come."""


def stops_in_good_order(rank: Rank) -> int:
    """Works until SIGTERM comes, then finishes."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Asked

    signal.signal(signal.SIGTERM, stop)
    with process_group(rank, CPU):
        with suppress(Asked):
            interrupt_the_starter(rank)
        return broadcast_number(7)


def dies_of_an_interrupt(rank: Rank) -> None:
    """Has nothing to save yet."""
    with process_group(rank, CPU):
        interrupt_the_starter(rank)


def interrupt_the_starter(rank: Rank) -> None:
    """Once all ranks have come so far, rank 0 interrupts the process that started them; then nothing happens here."""
    dist.barrier()
    starter = parent_process()
    assert starter is not None
    assert starter.pid is not None
    if rank.is_first:
        os.kill(starter.pid, signal.SIGTERM)
    time.sleep(3600)  # the test waits this long if nobody passes it on


def one_refuses(rank: Rank) -> None:
    """Rank 1 finds its input wrong; the others sit in an exchange."""
    with process_group(rank, CPU):
        if rank.number == 1:
            raise InputError("this clip is not for me")
        dist.all_reduce(torch.ones(1))
        time.sleep(3600)  # the test waits this long if nobody ends this rank
