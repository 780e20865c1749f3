"""`make fuzz`: thousands of broken files for every reader, in child processes of bounded memory, each case within seconds.

A case passes when it is read, or refused by one of our errors. Cases that do anything else are kept in --keep.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType

SECONDS, MEMORY = 10, 1_500 * 2**20
# Of the clock, after which a case that computes nothing hangs; on a busy machine ten seconds of it are no time at all.
CLOCK_SECONDS = 120
BATCH = 1250


class TooSlow(BaseException):
    """A case took longer than SECONDS of computing, or CLOCK_SECONDS in all."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="readers; all of them by default")
    parser.add_argument("--cases", type=int, default=5000, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("outputs/fuzz"), help="folder for the cases that failed")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        run_child(options.names[0], options.cases, options.seed, options.child)
        return
    from tests.fuzz.targets import all_targets

    if unknown := set(options.names) - all_targets().keys():
        parser.error(f"no reader {', '.join(sorted(unknown))}; there are {', '.join(all_targets())}")
    failures = sum(run(name, options.cases, options.seed, options.keep) for name in options.names or all_targets())
    sys.exit(1 if failures else 0)


def run(name: str, cases: int, seed: int, keep: Path) -> int:
    """Fuzz one reader; prints a line of figures and returns the number of failures."""
    failures: list[str] = []
    slowest, largest, begun = 0.0, 0, time.monotonic()
    for first in range(0, cases, BATCH):
        with tempfile.TemporaryDirectory(prefix="phonofilm-fuzz-") as folder:
            count = min(BATCH, cases - first)
            command = [sys.executable, "-m", "tests.fuzz", name, "--cases", str(count), "--seed", str(seed + first)]
            done = subprocess.run([*command, "--child", folder], capture_output=True, text=True, errors="replace")
            report = Path(folder) / "report.json"
            result = json.loads(report.read_text()) if report.exists() else {"failures": [], "seconds": 0, "bytes": 0}
            if done.returncode:
                result["failures"].append(f"{name}: the process ended with {done.returncode}: {done.stderr[-300:]}")
            slowest, largest = max(slowest, result["seconds"]), max(largest, result["bytes"])
            if result["failures"]:
                failures += result["failures"]
                shutil.copytree(folder, keep / f"{name}-{seed + first}", dirs_exist_ok=True)
    spent = time.monotonic() - begun
    print(
        f"{name}: {cases} cases, {len(failures)} failures, slowest {slowest:.2f} s, at most {largest / 2**20:.0f} MiB "
        f"more than at the start, {spent:.0f} s in all",
        flush=True,
    )
    for failure in failures[:10]:
        print(f"  {failure}", flush=True)
    return len(failures)


def run_child(name: str, cases: int, seed: int, folder: Path) -> None:
    """Make and read the cases one by one. The one in work lies in `folder` should this process die."""
    from tests.fuzz.targets import all_targets

    from phonofilm.errors import PhonofilmError

    warnings.simplefilter("ignore")
    target = all_targets()[name]
    target.read(target.make(folder, random.Random(seed)))  # imports take memory and time that are no case's own
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2 * MEMORY, in_use + 2 * MEMORY))
    signal.signal(signal.SIGALRM, _too_slow)
    signal.signal(signal.SIGPROF, _too_slow)
    failures: list[str] = []
    slowest = 0.0
    for index in range(cases):
        case = target.make(folder, random.Random(seed + index))
        begun = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(CLOCK_SECONDS)
        try:
            target.read(case)
        except PhonofilmError as error:
            if "\n" in str(error).strip():
                failures.append(f"seed {seed + index}: a message of several lines: {error}")
        except (Exception, TooSlow) as error:  # noqa: BLE001 - whatever it is, it is a finding
            last = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(
                f"seed {seed + index}: {type(error).__name__}: {str(error)[:150]} ({Path(last.filename).name}:{last.lineno})"
            )
            kept = folder / f"failed-{seed + index}{case.suffix}"
            shutil.copytree(case, kept) if case.is_dir() else shutil.copy(case, kept)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
        slowest = max(slowest, time.process_time() - begun)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - start
    if grown > MEMORY:
        failures.append(f"seeds {seed} to {seed + cases}: {grown / 2**20:.0f} MiB were needed")
    (folder / "report.json").write_text(json.dumps({"failures": failures, "seconds": slowest, "bytes": grown}))


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"longer than {SECONDS} s, or waiting")


if __name__ == "__main__":
    main()
