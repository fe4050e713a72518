"""One Chromium for all tests of the page."""

from pathlib import Path

import av
import cv2
import pytest

from tests.talking import write_talking
from tests.web.chromium import ARGUMENTS, CHROMIUM, EXAMPLE


@pytest.fixture(scope="package")
def driver():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(driver):
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield browser
    browser.close()


@pytest.fixture(scope="package")
def picture(tmp_path_factory) -> Path:
    """The example's first frame."""
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    with av.open(str(EXAMPLE)) as video:
        cv2.imwrite(str(path), next(video.decode(video=0)).to_ndarray(format="bgr24"))
    return path


@pytest.fixture(scope="package")
def talking(tmp_path_factory) -> Path:
    """Two faces, of which the left one speaks."""
    return write_talking(tmp_path_factory.mktemp("talking") / "talking.mp4", 1.6)
