"""The page from any static host, and without a network after the first visit."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from diffsal.web.server import export_page
from tests.web.chromium import maps_of, open_file, open_page, wait

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("web")]


class Host(SimpleHTTPRequestHandler):
    """Knows nothing of the headers that threads need."""

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


ALL_GRAPHS_ARE_KEPT = """async () => {
  const kept = await (await caches.open((await caches.keys())[0])).keys();
  return kept.filter((request) => request.url.includes(".onnx?")).length === 5;
}"""


def test_after_one_visit_to_a_static_host_the_page_works_offline(browser, tmp_path: Path, talking: Path):
    export_page(tmp_path / "page")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Host, directory=str(tmp_path / "page")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = browser.new_context()
    page = open_page(context, server.server_address[1])
    assert page.evaluate("() => crossOriginIsolated")
    page.wait_for_function(ALL_GRAPHS_ARE_KEPT)
    server.shutdown()
    server.server_close()
    page.reload()
    wait(page, "document.getElementById('status').textContent.startsWith('Ready')")
    assert page.evaluate("() => crossOriginIsolated")
    picture = tmp_path / "picture.png"
    cv2.imwrite(
        str(picture), cv2.circle(cv2.UMat(90, 160, cv2.CV_8UC3, (40, 40, 40)).get(), (50, 40), 9, (0, 200, 250), -1)
    )
    open_file(page, picture)
    assert maps_of(page)[0].max() > 0
    open_file(page, talking)
    assert page.evaluate("() => diffsalMaps().at(-1).faces.map((face) => face.speaking > 0.5)") == [True, False]
    context.close()
