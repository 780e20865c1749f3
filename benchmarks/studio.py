"""The studio's page with a thousand clips: `python -m benchmarks.studio -o DIR`. Needs Chromium and the extras serve and dev.

Prints the size of the scripts, the time to the first paint (each load in a browser context of its own, so nothing is cached), and
how evenly the library scrolls: the time between frames while the list moves by 60 pixels a frame, and the processor time that the
page's own thread took for each, which other work on the machine does not change. The library is kept in DIR; a second call only
measures. The physical limit is the screen's own frame, 16.7 ms; without a graphics card Chromium also paints on the processor.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession

STATIC = Path(__file__).parents[1] / "src" / "phonofilm" / "serving" / "studio" / "static"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
AT_ONCE = 50
START_SECONDS = 300
SCROLL = """async () => {
  const list = document.querySelector('.viewport'), times = [];
  let last = performance.now(), empty = 0;
  for (let top = 0; top < list.scrollHeight && times.length < 600; top += 60) {
    list.scrollTop = top;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
    if (!list.querySelector('article')) empty += 1;
  }
  return { times, empty, height: list.scrollHeight, cards: list.querySelectorAll('li').length };
}"""


def fill(folder: Path, count: int) -> None:
    """Files of one clip, each with a number at its end, so that no two are the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    clip = folder / "clip-0000.mp4"
    if not clip.exists():
        words = ["A red ball bounces.", "--seed", "1", "-o", str(clip)]
        subprocess.run([sys.executable, "-m", "phonofilm", "generate", *words], check=True)
    content = clip.read_bytes()
    for number in range(1, count):
        file = folder / f"clip-{number:04}.mp4"
        if not file.exists():
            file.write_bytes(content + (12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big"))


@contextmanager
def server(folder: Path, clips: Path) -> Iterator[str]:
    """The studio in a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "phonofilm", "studio", "--no-open", "--port", str(port), "--import", str(clips)]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except (OSError, urllib.error.URLError):
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended; see {folder / 'server.log'}") from None
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def import_all(address: str) -> None:
    """Bring in what is not in the library yet, and say how far it is."""
    with urllib.request.urlopen(f"{address}/v1/studio/imports") as answer:
        listed = json.load(answer)["folders"][0]["files"]
    ids = [one["id"] for one in listed if not one["imported"]]
    for start in range(0, len(ids), AT_ONCE):
        body = json.dumps({"ids": ids[start : start + AT_ONCE]}).encode()
        head = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{address}/v1/studio/imports/folder", body, head)).read()
        print(f"{min(start + AT_ONCE, len(ids))} of {len(ids)} clips brought in", flush=True)


def first_paints(browser: Browser, address: str, loads: int) -> list[float]:
    """Milliseconds from the start of the navigation to the first paint with content, one for each load."""
    found = []
    for _ in range(loads):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}/studio", wait_until="load")
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
        found.append(float(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")))
        context.close()
    return found


def scroll(browser: Browser, address: str) -> dict[str, Any]:
    """The list of all clips from top to end, or 600 frames of it."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(f"{address}/studio#/library")
    page.wait_for_selector(".viewport li")
    page.wait_for_timeout(2000)
    metrics = context.new_cdp_session(page)
    metrics.send("Performance.enable")
    before = thread_seconds(metrics)
    result: dict[str, Any] = page.evaluate(SCROLL)
    result["busy"] = 1000 * (thread_seconds(metrics) - before) / len(result["times"])
    context.close()
    return result


def thread_seconds(metrics: CDPSession) -> float:
    """Processor time of the page's main thread."""
    values = metrics.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in values if one["name"] == "ThreadTime"))


def script_bytes() -> tuple[int, int]:
    """Of all scripts of the page, also those that are loaded later: as they are, and by gzip."""
    files = [file.read_bytes() for file in sorted(STATIC.rglob("*.js"))]
    return sum(map(len, files)), sum(len(gzip.compress(one)) for one in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--loads", type=int, default=9)
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    program = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if program is None:
        parser.error(f"no Chromium: none of {', '.join(CHROMIUM)} is installed")
    folder = given.output.resolve()
    fill(folder / "clips", given.clips)
    with server(folder, folder / "clips") as address:
        import_all(address)
        time.sleep(5)  # the planner works out what the machine can do when the server starts
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
            paints, scrolled = first_paints(browser, address, given.loads), scroll(browser, address)
            browser.close()
    plain, packed = script_bytes()
    times = sorted(scrolled["times"])
    print(f"scripts: {plain / 1000:.0f} kB, {packed / 1000:.0f} kB by gzip (goal 250)")
    middle, worst = statistics.median(paints), max(paints)
    print(f"first paint: median {middle:.0f} ms, worst {worst:.0f} ms of {len(paints)} loads (goal 500)")
    p95, middle = times[int(len(times) * 0.95)], statistics.median(times)
    print(
        f"scroll of {given.clips} clips, {len(times)} frames: {scrolled['busy']:.1f} ms of the page's thread a frame (limit 16.7)"
    )
    print(f"  from frame to frame: median {middle:.1f} ms, p95 {p95:.1f} ms, longest {times[-1]:.1f} ms")
    print(f"  {scrolled['empty']} frames without a clip, {scrolled['cards']} cards at once")
    print(f"load of the machine in the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
