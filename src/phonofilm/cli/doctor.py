"""`phonofilm doctor`: versions, devices, attention backends, codecs, and the health of a checkpoint. Only looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

PACKAGES = (
    *("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "tokenizers"),
    *("av", "pillow", "numpy", "peft", "matplotlib"),
)
CODECS = {"libx264": "mp4 picture", "aac": "mp4 sound", "libvpx-vp9": "webm picture", "libopus": "webm sound"}


def doctor(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Also examine this checkpoint: a folder, a hub id, nano, 360p or 720p."),
    ] = None,
) -> None:
    """What this machine and this installation can do. Exit code 1 when something that is needed is broken."""
    from rich.console import Console

    from phonofilm.cli.terminal import cell
    from phonofilm.errors import PhonofilmError

    console = Console()
    codecs, complete = _codecs()
    for table in (_versions(), _devices(), _attention(), codecs):
        console.print(table)
    if not complete:
        raise PhonofilmError(
            "a codec is missing, so clips cannot be written; reinstall av: pip install --force-reinstall av"
        )
    console.print(cell(_verdict(), "bold"), soft_wrap=True)
    if model is not None:
        from phonofilm.cli.models import print_findings
        from phonofilm.models.health import health, is_loadable
        from phonofilm.models.hub import local_checkpoint

        folder = local_checkpoint(model)
        findings = health(folder)
        print_findings(folder, findings)
        if not is_loadable(findings):
            raise typer.Exit(1)


def _verdict() -> str:
    from phonofilm.cli.plan import MODELS
    from phonofilm.generation import machine_fit

    machine = machine_fit.this_machine(None, None, None, link=25e9)
    return machine_fit.verdicts([machine_fit.needs_of(name) for name in MODELS], machine)


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, title=title, title_justify="left", title_style="bold", show_header=False)


def _versions() -> Table:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from phonofilm import __version__

    table = _table("versions", "package", "version")
    table.add_row("phonofilm", __version__)
    table.add_row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        try:
            table.add_row(package, version(package))
        except PackageNotFoundError:
            table.add_row(package, "[dim]not installed[/dim]")
    return table


def _devices() -> Table:
    import psutil
    import torch

    from phonofilm.units import format_size

    table = _table("devices", "device", "what it is", "memory")
    memory = psutil.virtual_memory()
    table.add_row(
        "cpu",
        f"{psutil.cpu_count(logical=False) or '?'} cores, {torch.get_num_threads()} threads used by PyTorch",
        f"{format_size(memory.total)}, {format_size(memory.available)} free",
    )
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        about = torch.cuda.get_device_properties(index)
        table.add_row(
            f"cuda:{index}",
            f"{about.name}, sm_{about.major}{about.minor}",
            f"{format_size(total)}, {format_size(free)} free",
        )
    if torch.backends.mps.is_available():
        table.add_row("mps", "Apple GPU", f"{format_size(torch.mps.recommended_max_memory())} recommended at most")
    return table


def _attention() -> Table:
    """Backends that are installed are tried, on the device and in the precision that `generate` would use."""
    from phonofilm.errors import InputError
    from phonofilm.generation.placement.attention import attention_backend_name, attention_backends
    from phonofilm.generation.placement.devices import choose_placement

    machine = choose_placement()
    states: dict[str, list[str]] = {"work here": [], "installed, not for this device": [], "not installed": []}
    for name, missing in attention_backends().items():
        if missing is not None:
            states["not installed"].append(name)
            continue
        try:
            attention_backend_name(name, machine.device, machine.dtype)
        except InputError:
            states["installed, not for this device"].append(name)
        else:
            states["work here"].append(name)
    table = _table("attention backends (--attn-backend)", "state", "names")
    for state, names in states.items():
        table.add_row(state, ", ".join(names))
    return table


def _codecs() -> tuple[Table, bool]:
    import av
    from av.codec.codec import UnknownCodecError

    table = _table("codecs", "encoder", "for", "state")
    complete = True
    for codec, use in CODECS.items():
        try:
            av.Codec(codec, "w")
        except UnknownCodecError:
            complete = False
            table.add_row(codec, use, "[red]missing[/red]")
        else:
            table.add_row(codec, use, "[green]ok[/green]")
    return table, complete
