"""The page on WebGPU, which Chromium imitates in software: the same maps, and what happens when it fails."""

import os
from pathlib import Path

import pytest

import diffsal
from diffsal.web.server import PageHandler
from tests.web.chromium import ARGUMENTS, CHROMIUM, first_seconds, maps_of, open_file, open_page, serving, wait
from tests.web.test_page import cc

pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("web")]
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
    with serving(Handler) as port:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, "--enable-unsafe-webgpu"])
        yield browser, port
        browser.close()


def open_with(chromium, search: str, in_worker: str):
    """The page at an address with ``search``, whose worker runs ``in_worker`` first."""
    browser, port = chromium
    Handler.before = in_worker
    page = open_page(browser.new_context(), port, search=search, seconds=900)
    if page.evaluate("async () => !(await navigator.gpu?.requestAdapter())"):
        pytest.skip("this Chromium imitates no WebGPU adapter")
    return page


def fetched(page) -> str:
    return " ".join(page.workers[0].evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """The example's first five frames, with their sound."""
    return first_seconds(tmp_path_factory.mktemp("clip") / "short.mp4", 0.2)


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
