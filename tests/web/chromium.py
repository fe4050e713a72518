"""The page in Chromium, driven by Playwright: opened, given files, and asked for its maps."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from diffsal.web.server import page_server

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",  # a camera that shows a moving pattern
]  # fmt: skip
EXAMPLE = Path(__file__).parents[2] / "examples" / "bigbuckbunny.mp4"
NO_DIALOG = "delete window.showSaveFilePicker;"  # which a browser without a screen cannot show


@contextmanager
def serving(handler: type | None = None) -> Iterator[int]:
    """The port of a server of the page, with ``handler`` in the place of its own."""
    with page_server(0) as server:
        server.RequestHandlerClass = handler or server.RequestHandlerClass
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def first_seconds(path: Path, seconds: float) -> Path:
    """The example's beginning with its sound, its packets as they are."""
    with av.open(str(EXAMPLE)) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in (*source.streams.video, *source.streams.audio)}
        for packet in source.demux():
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return path


def open_page(context, port: int, script: str = NO_DIALOG, search: str = "", seconds: float = 300):
    """The page of the server at ``port``, with its network loaded; ``script`` runs before the page's own."""
    page = context.new_page()
    page.add_init_script(script)
    page.goto(f"http://localhost:{port}/{search}")
    wait(page, "document.getElementById('status').textContent.startsWith('Ready')", seconds)
    return page


def wait(page, condition: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if page.evaluate(f"() => !!({condition})"):
                return
        except Exception as error:
            if "context was destroyed" not in str(error):  # the page reloads itself once on a static host
                raise
        time.sleep(0.2)
    raise AssertionError(f"{condition} did not come; the page says: {page.text_content('#status')}")


def open_file(page, path: Path, state: str = "done") -> None:
    """Chooses the file, and waits until the page says of this file that it is ``state``."""
    page.set_input_files("#file", str(path))
    wait_for(page, path.name, state)


def wait_for(page, name: str, state: str) -> None:
    wait(page, f"document.body.dataset.file === '{name}' && document.body.dataset.state === '{state}'")


def maps_of(page) -> dict[int, np.ndarray]:
    found = page.evaluate("() => diffsalMaps().map(m => [m.index, m.height, m.width, Array.from(m.map)])")
    return {i: np.array(values, float).reshape(h, w) for i, h, w, values in found}
