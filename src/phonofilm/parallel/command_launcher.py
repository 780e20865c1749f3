"""A command of ours in several processes, which find each other as torchrun's do: what training needs, which may be resumed.

Clips are made by ranks of launcher.py, which hand their result back; a training hands back nothing but files.
"""

from __future__ import annotations

from collections.abc import Sequence

from phonofilm.errors import InputError


def start_processes(gpus: int, arguments: Sequence[str]) -> int:
    """Run `phonofilm ARGUMENTS` in `gpus` processes that know each other, and wait for all of them; the exit code.

    When one fails, the others are stopped; the code is that of the one that failed, which has said why.
    """
    import torch
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    if torch.cuda.is_available() and gpus > torch.cuda.device_count():
        raise InputError(f"--gpus {gpus} was given, and PyTorch sees {torch.cuda.device_count()}")
    try:
        torchrun(["--standalone", f"--nproc_per_node={gpus}", "-m", "phonofilm", *arguments])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 1
    return 0
