"""The page in Chromium: frames per second, processor time, and whether memory grows with a video's length.

    python benchmarks/web.py [VIDEO] [--minutes 10] [--frame-rate 25] [--size 90x160] [--save] [--engine webgpu]

Opens VIDEO, or a made one of that length with sound, and prints every minute of it the memory that Chromium's
processes hold for themselves, and what the page says; ``--save`` saves the overlay, too, and prints the highest
memory meanwhile. ``--engine webgpu`` takes WebGPU, which Chromium may only imitate. Needs Chromium
and playwright.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import psutil
from memory import write_video
from playwright.sync_api import Page, sync_playwright

from diffsal.web.server import page_server

ARGUMENTS = ["--no-sandbox", "--mute-audio", "--enable-unsafe-webgpu"]
MAP_BYTES = 56 * 96 * 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--frame-rate", type=int, default=25)
    parser.add_argument("--size", default="90x160", help="HEIGHTxWIDTH")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--engine", choices=["wasm", "webgpu"], default="wasm")
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, page_server(0) as server, sync_playwright() as driver:
        video = options.video or write_video(
            Path(folder) / "long.mp4", options.minutes, options.frame_rate, height, width
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        page = browser.new_page()
        page.add_init_script("delete window.showSaveFilePicker;")  # no dialog: the browser has no screen
        page.goto(f"http://localhost:{server.server_address[1]}/?engine={options.engine}")
        while not (page.text_content("#status") or "").startswith("Ready"):
            time.sleep(0.2)
        print(
            f"{page.text_content('#status')} Chromium {browser.version}; {platform.machine()}, {os.cpu_count()} cores, "
            f"load {os.getloadavg()[0]:.1f}, {date.today()}"
        )
        print(f"network loaded   {megabytes():6.0f} MB", flush=True)
        before = seconds_of_processor()
        page.set_input_files("#file", str(video))
        watch(page)
        maps = page.evaluate("diffsalMaps().length")
        print(
            f"processor        {1e3 * (seconds_of_processor() - before) / maps:.0f} ms for each of {maps} maps",
            flush=True,
        )
        if options.save:
            save(page)
        browser.close()
        server.shutdown()


def watch(page: Page) -> None:
    """Prints memory at every minute of the video until the page is done."""
    minute = 0
    while (state := page.evaluate("document.body.dataset.state")) == "working":
        seconds, maps = page.evaluate("[diffsalMaps().at(-1)?.seconds ?? 0, diffsalMaps().length]")
        if seconds >= 60 * minute and maps:
            tell(f"minute {minute:2d}", maps, page)
            minute += 1
        time.sleep(1)
    tell(state, page.evaluate("diffsalMaps().length"), page)


def tell(what: str, maps: int, page: Page) -> None:
    print(
        f"{what:16} {megabytes():6.0f} MB, of them {maps} maps {maps * MAP_BYTES / 1e6:5.1f} MB; load "
        f"{os.getloadavg()[0]:.1f}; {page.text_content('#status')}",
        flush=True,
    )


def save(page: Page) -> None:
    """Saves the overlay, and prints how long it took and the highest memory meanwhile."""
    began, highest, saved = time.perf_counter(), 0.0, []
    page.on("download", saved.append)
    page.click("#save-video")
    while not saved and "cannot" not in (page.text_content("#status") or ""):
        highest = max(highest, megabytes())
        page.wait_for_timeout(500)
    size = Path(saved[0].path()).stat().st_size / 1e6 if saved else 0
    print(
        f"saved            {highest:6.0f} MB at most, {size:.0f} MB of video in {time.perf_counter() - began:.0f} s; "
        f"{page.text_content('#status')}"
    )


def seconds_of_processor() -> float:
    """What Chromium's processes have used, its playing of the video included."""
    return sum(sum(process.cpu_times()[:2]) for process in psutil.Process().children(recursive=True))


def megabytes() -> float:
    """What this process's children hold for themselves, in MB: Chromium and its driver."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_full_info().uss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 1e6


if __name__ == "__main__":
    main()
