"""Makes every picture of docs/gallery.md again: ``make gallery``, or ``python examples/gallery.py [--clips DIR]``.

Each is what a command of the gallery writes, made smaller (JPEG, at most 1,400 pixels wide). ``--clips`` is a folder
with ``sam2_juggle.mp4`` (SAM 2's demo media, Apache-2.0); without it that picture stays as it is. ``--scores`` are
folders that `diffsal evaluate` wrote: the report's first screen is photographed with Chromium, if that is there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np

from diffsal.cli import commands as cli

ROOT = Path(__file__).parents[1]
BUNNY, PICTURES = ROOT / "examples/bigbuckbunny.mp4", ROOT / "docs/gallery"
WIDEST, LARGEST_BYTES = 1400, 145_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def run(*arguments: object) -> None:
    """One command, as a user types it."""
    print("diffsal", *arguments)
    try:
        cli.main([str(a) for a in arguments])
    except SystemExit as end:
        if end.code:
            raise


def keep(path: Path, name: str, crop: tuple[int, int] | None = None) -> None:
    """``path`` as docs/gallery/NAME.jpg, small; ``crop``: its first rows and columns."""
    image = cv2.imread(str(path))
    image = image[: crop[0], : crop[1]] if crop else image
    if image.shape[1] > WIDEST:
        height = round(WIDEST * image.shape[0] / image.shape[1])
        image = cv2.resize(image, (WIDEST, height), interpolation=cv2.INTER_AREA)
    for quality in range(88, 30, -6):
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        if len(data) <= LARGEST_BYTES:
            break
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.jpg").write_bytes(np.asarray(data).tobytes())
    print(f"docs/gallery/{name}.jpg: {image.shape[1]}x{image.shape[0]}, {len(data) / 1000:.0f} KB")


def bunny(work: Path) -> None:
    run("predict", BUNNY, "-o", work / "one.mp4", "--maps", work / "one", "--sheet", work / "sheet.png",
        "--moments", work / "moments.png")
    keep(work / "sheet.png", "sheet")
    keep(work / "moments.png", "moments")
    run("explain", BUNNY, "--frame", 60, "-o", work / "explain.png")
    keep(work / "explain.png", "explain")
    run("predict", BUNNY, "--start", 1, "--end", 2.5, "--steps", 4, "--samples", 4, "-o", work / "samples.mp4",
        "--sheet", work / "samples.png")
    keep(work / "samples.png", "samples")
    run("predict", BUNNY, "--mute", "--maps", work / "muted", "--only-maps")
    run("compare", BUNNY, "--maps", f"with sound={work / 'one'}", f"without={work / 'muted'}", "-o",
        work / "compare.png", "-o", work / "compare.pdf")
    keep(work / "compare.png", "compare")


def juggler(work: Path, clips: Path) -> None:
    run("predict", clips / "sam2_juggle.mp4", "--end", 4, "-o", work / "juggler.mp4", "--sheet", work / "juggler.png")
    keep(work / "juggler.png", "juggler")


def report(work: Path, scores: list[Path]) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return print("no Chromium: the report is not photographed")
    run("report", *scores, "-o", work / "report.html", "--worst", 0)
    subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    f"--user-data-dir={work / 'profile'}", "--window-size=1400,1100",
                    f"--screenshot={work / 'report.png'}", (work / "report.html").as_uri()], check=True)
    keep(work / "report.png", "report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--scores", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bunny(work)
        if options.clips:
            juggler(work, options.clips)
        if options.scores:
            report(work, options.scores)


if __name__ == "__main__":
    main()
