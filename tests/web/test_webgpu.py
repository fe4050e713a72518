"""The page on WebGPU, which Chromium imitates in software: the same maps, and what happens when it fails."""

import os
import threading
from pathlib import Path

import av
import cv2
import pytest

import diffsal
from diffsal.web.server import PageHandler, page_server
from tests.web.chromium import ARGUMENTS, CHROMIUM, maps_of, open_file, wait
from tests.web.test_page import EXAMPLE, cc

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("web")]
READY = "document.getElementById('status').textContent.startsWith('Ready')"
KEEP_DEVICE = """{
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (wanted) {
    return (self.card = await request.call(this, wanted));
  };
}"""
NO_DEVICE = 'GPUAdapter.prototype.requestDevice = () => Promise.reject(new Error("no memory left on it"));'


class Handler(PageHandler):
    """Runs a piece of script in the page's worker before the worker's own."""

    before = ""

    @classmethod
    def _file(cls, name: str) -> bytes | None:
        body = PageHandler._file(name)
        return cls.before.encode() + body if name == "worker.js" and body else body


@pytest.fixture(scope="module")
def chromium(driver):
    with page_server(0) as server:
        server.RequestHandlerClass = Handler
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, "--enable-unsafe-webgpu"])
        yield browser, f"http://localhost:{server.server_address[1]}/"
        browser.close()
        server.shutdown()


def open_with(chromium, search: str, in_worker: str):
    """The page at an address with ``search``, whose worker runs ``in_worker`` first."""
    browser, address = chromium
    Handler.before = in_worker
    page = browser.new_context().new_page()
    page.goto(address + search)
    if page.evaluate("async () => !(await navigator.gpu?.requestAdapter())"):
        pytest.skip("this Chromium imitates no WebGPU adapter")
    wait(page, READY, 900)
    return page


def fetched(page) -> str:
    return " ".join(page.workers[0].evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """The example's first five frames, with their sound."""
    path = tmp_path_factory.mktemp("clip") / "short.mp4"
    with av.open(str(EXAMPLE)) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in (*source.streams.video, *source.streams.audio)}
        for packet in source.demux():
            if packet.dts is not None and packet.dts * packet.time_base < 0.2:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return path


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    with av.open(str(EXAMPLE)) as video:
        cv2.imwrite(str(path), next(video.decode(video=0)).to_ndarray(format="bgr24"))
    return path


@pytest.mark.skipif(not os.environ.get("DIFFSAL_WEBGPU"), reason="many minutes on an imitated card: DIFFSAL_WEBGPU=1")
def test_maps_on_webgpu_are_the_python_engines_and_a_card_that_stops_gives_way_to_wasm(chromium, clip, picture):
    page = open_with(chromium, "?engine=webgpu", KEEP_DEVICE)
    assert page.evaluate("() => document.body.dataset.engine") == "webgpu", page.text_content("#engine-name")
    assert page.text_content("#status").startswith("Ready. WebGPU (")
    page.set_input_files("#file", str(clip))
    wait(page, "document.body.dataset.state === 'done'", 900)
    found, model = maps_of(page), diffsal.load("compact")
    compared = [cc(found[f.index], f.saliency) for f in diffsal.predict(model, clip, indices=sorted(found))]
    assert len(compared) == len(found) >= 3
    assert min(compared) >= 0.999, compared

    page.workers[0].evaluate("() => self.card.destroy()")
    open_file(page, picture)
    assert page.evaluate("() => document.body.dataset.engine") == "wasm"
    frame = next(iter(diffsal.predict(model, picture)))
    assert cc(maps_of(page)[0], frame.saliency) >= 0.999
    page.context.close()


def test_a_card_that_gives_no_device_gives_way_to_wasm(chromium):
    page = open_with(chromium, "?engine=webgpu", NO_DEVICE)
    assert page.evaluate("() => document.body.dataset.engine") == "wasm"
    assert "WebGPU failed" in page.text_content("#engine-name") and "WASM" in page.text_content("#status")
    page.context.close()


def test_a_card_is_not_taken_unasked_and_its_engine_not_fetched(chromium):
    page = open_with(chromium, "", "")
    assert page.evaluate("() => document.body.dataset.engine") == "wasm"
    assert "asyncify" not in fetched(page) and "ort-wasm-simd-threaded.wasm.gz" in fetched(page)
    page.context.close()
