"""The command line of the GPU benchmark: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu.runner import Options, run
from benchmarks.gpu.stages import STAGES, stages_named

SIZES = ("360p", "720p", "tiny")


def main() -> int:
    """Parse, run, and say with the exit code whether every stage could be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results.jsonl and what stages leave")
    parser.add_argument("--size", choices=SIZES, default="360p", help="of model and clip; tiny tries every stage")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS", help="for everything; by default 540")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="STAGE", help=f"of {', '.join(stage.name for stage in STAGES)}"
    )
    given = parser.parse_args()
    try:
        stages = stages_named(given.only)
    except ValueError as error:
        parser.error(str(error))
    options = Options(given.out, given.size, given.device, given.budget, named=bool(given.only))
    return run(options, stages)


if __name__ == "__main__":
    sys.exit(main())
