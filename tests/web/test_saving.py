"""Saving two minutes of overlay: the file grows on disk, can be cancelled, and the browser's memory stays flat."""

from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from diffsal.web.server import PageHandler
from tests.movies import tone, write_movie
from tests.web.chromium import NO_DIALOG, open_page, serving, wait

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("web")]
SECONDS, RATE = 120, 5
# In the worker's place: a map for every half second at once, brightest where the video is at that moment
WORKER = """
const say = (message) => postMessage(message);
onmessage = ({ data: { kind, job } }) => {
  if (kind === "load") say({ kind: "engine", engine: "none", name: "a test" }), say({ kind: "ready", job });
  if (kind !== "video") return;
  say({ kind: "opened", job, frameRate: 10, duration: 120, sound: true });
  for (let i = 0; i < 240; i++) {
    const map = new Uint16Array(96 * 56);
    for (let y = 0; y < 56; y++) map[96 * y + Math.floor((96 * i) / 240)] = 65535;
    say({ kind: "map", job, index: 5 * i, seconds: i / 2, map, width: 96, height: 56, faces: [] });
  }
  say({ kind: "done", job, frames: 1200, framesPerSecond: 1 });
};
"""
# The user's choice of a file, made in the browser's own storage
DIALOG = """
window.showSaveFilePicker = async ({ suggestedName }) => {
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("chosen", { create: true });
  return folder.getFileHandle(suggestedName, { create: true });
};
"""
# Path and size of every file in the browser's own storage
STORED = """async () => {
  const found = {};
  const look = async (folder, path) => {
    for await (const [name, handle] of folder.entries()) {
      if (handle.kind === "directory") await look(handle, `${path}${name}/`);
      else found[path + name] = (await handle.getFile()).size;
    }
  };
  await look(await navigator.storage.getDirectory(), "");
  return found;
}"""


class Handler(PageHandler):
    """The page with :data:`WORKER`."""

    @staticmethod
    def _file(name: str) -> bytes | None:
        return WORKER.encode() if name == "worker.js" else PageHandler._file(name)


@pytest.fixture(scope="module")
def port():
    with serving(Handler) as port:
        yield port


@pytest.fixture(scope="module")
def movie(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("movie") / "two minutes.mp4"
    grey = np.broadcast_to(np.full((96, 160, 3), 90, np.uint8), (SECONDS * RATE, 96, 160, 3))
    sound = tone(SECONDS, 16_000)
    return write_movie(path, frame_rate=RATE, num_frames=len(grey), images=grey, size=(96, 160), sound=sound)


def open_movie(browser, port: int, movie: Path, script: str):
    page = open_page(browser.new_context(), port, script)
    page.set_input_files("#file", str(movie))
    wait(page, "document.body.dataset.state === 'done'")
    page.evaluate("document.getElementById('video').pause()")
    return page


def megabytes() -> float:
    """What Chromium's processes hold for themselves."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().uss / 1e6
    return total


def saved_percent(page) -> int:
    text = page.text_content("#status")
    return int(text.split()[1]) if text.startswith("Saving: ") else 100 * text.startswith("Saved ")


def test_two_minutes_are_saved_with_flat_memory_and_their_maps(browser, port, movie, tmp_path):
    page = open_movie(browser, port, movie, NO_DIALOG)
    held: dict[bool, list[float]] = {False: [], True: []}  # before and after the middle
    with page.expect_download(timeout=400_000) as saved:
        page.click("#save-video")
        assert page.text_content("#save-video") == "Cancel saving"
        while (percent := saved_percent(page)) < 100:
            if percent >= 20:
                held[percent >= 60].append(megabytes())
            page.wait_for_timeout(100)
    assert page.text_content("#save-video") == "Save video" and page.text_content("#status").startswith("Saved two")
    if held[False] and held[True]:  # else it was too quick to look at
        assert max(held[True]) < max(held[False]) + 50, held
    overlay = tmp_path / saved.value.suggested_filename
    saved.value.save_as(overlay)
    with av.open(str(overlay)) as video:
        frames = [(f.time, f.to_ndarray(format="rgb24").astype(int)) for f in video.decode(video=0)]
    assert len(frames) == SECONDS * RATE and frames[-1][0] == pytest.approx(SECONDS - 1 / RATE, abs=0.02)
    with av.open(str(overlay)) as video:
        sound = sum(f.samples / f.sample_rate for f in video.decode(audio=0))
    assert sound == pytest.approx(SECONDS, abs=0.2)
    for at in (100, 300, 500):  # the bright column wanders with the maps
        seconds, image = frames[at]
        red_less_blue = (image[..., 0] - image[..., 2]).mean(0)
        assert np.argmax(red_less_blue) == pytest.approx(160 * seconds / SECONDS, abs=4)
    page.context.close()


def test_saving_into_a_chosen_file_and_cancelling(browser, port, movie):
    page = open_movie(browser, port, movie, DIALOG)
    page.click("#save-video")
    wait(page, "document.getElementById('status').textContent.startsWith('Saving')")
    page.click("#save-video")
    wait(page, "document.getElementById('status').textContent === 'Not saved.'")
    assert page.text_content("#save-video") == "Save video" and page.is_hidden("#progress")
    assert page.evaluate(STORED) == {}

    page.click("#save-video")
    wait(page, "document.getElementById('status').textContent.startsWith('Saved')")
    (path, size), = page.evaluate(STORED).items()
    assert path.startswith("chosen/two minutes.saliency.") and size > 10_000

    page.click("#save-video")  # over the file that is there
    wait(page, "document.getElementById('status').textContent.startsWith('Saving')")
    page.click("#save-video")
    wait(page, "document.getElementById('status').textContent === 'Not saved.'")
    assert page.evaluate(STORED) == {path: size}
    page.context.close()
