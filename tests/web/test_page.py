"""The page in Chromium: a clip plays with its heat map, and the maps are the Python engine's."""

import base64
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import diffsal
from tests.movies import turn
from tests.talking import write_talking
from tests.web.chromium import first_seconds, maps_of, open_file, open_page, serving, wait, wait_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("web")]

OUTLINED_PIXELS = """() => {
  const heat = document.getElementById("heat");
  const { data } = heat.getContext("2d").getImageData(0, 0, heat.width, heat.height);
  return data.filter((green, i) => i % 4 === 1 && green > 240 && data[i - 1] < 120 && data[i + 2] === 255).length;
}"""


@pytest.fixture(scope="module")
def page(browser):
    with serving() as port:
        yield open_page(browser, port)


def cc(own: np.ndarray, saliency: np.ndarray) -> float:
    """The correlation at the picture's size; the page's maps are enlarged as the engine enlarges its own."""
    large = cv2.resize(cv2.resize(own, (384, 224)), saliency.shape[::-1])
    return float(np.corrcoef(large.ravel(), saliency.ravel())[0, 1])


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return first_seconds(tmp_path_factory.mktemp("clip") / "clip.mp4", 0.5)


def test_a_clip_with_sound_plays_and_its_maps_are_the_python_engines(page, clip, tmp_path):
    open_file(page, clip)
    assert page.evaluate("() => document.getElementById('video').duration > 0.4")
    assert page.evaluate("() => crossOriginIsolated")
    found = maps_of(page)
    model = diffsal.load("compact")
    compared = []
    for frame in diffsal.predict(model, clip, indices=sorted(found)):
        compared.append(cc(found[frame.index], frame.saliency))
    assert len(compared) == len(found) >= 6
    assert min(compared) >= 0.999, compared
    with page.expect_download() as saved:
        page.click("#save-json")
    saved.value.save_as(tmp_path / "attention.json")
    document = json.loads((tmp_path / "attention.json").read_text())
    assert [f["index"] for f in document["frames"]] == sorted(found)
    with page.expect_download(timeout=120_000) as saved:
        page.click("#save-video")
    overlay = tmp_path / saved.value.suggested_filename
    saved.value.save_as(overlay)
    with av.open(str(overlay)) as video:
        assert sum(1 for _ in video.decode(video=0)) >= 12 and video.streams.audio


def test_the_face_that_speaks_is_outlined_and_counts_as_in_the_python_engine(page, talking, tmp_path):
    open_file(page, talking)
    found = maps_of(page)
    with page.expect_download() as saved:
        page.click("#save-json")
    saved.value.save_as(tmp_path / "attention.json")
    frames = {f["index"]: f for f in json.loads((tmp_path / "attention.json").read_text())["frames"]}
    most = []
    for frame in diffsal.predict(diffsal.load("compact"), talking, indices=sorted(found)):
        assert cc(found[frame.index], frame.saliency) >= 0.999
        height, width = frame.saliency.shape
        for own, face in zip(frames[frame.index]["faces"], frame.faces, strict=True):
            box = [face.left / width, face.top / height, (face.left + face.width) / width,
                   (face.top + face.height) / height]  # fmt: skip
            assert own["track"] == face.track and own["box"] == pytest.approx(box, abs=2e-3)
            assert own["confidence"] == pytest.approx(face.confidence, abs=1e-2)
            assert own["speaking"] == pytest.approx(face.speaking, abs=1e-2)
        most.append(sorted((f.speaking or 0, f.left < width / 2) for f in frame.faces)[-1])
    speaking, is_left = max(most)
    assert len(frames) == len(most) == 20 and speaking > 0.9 and is_left

    page.evaluate("() => { const v = document.getElementById('video'); v.pause(); v.currentTime = 1.5; }")
    wait(page, "document.getElementById('heat').ariaLabel.endsWith('Speaking: the face at middle left.')")
    assert page.evaluate(OUTLINED_PIXELS) > 100
    page.focus("#faces")
    page.keyboard.press("Space")
    assert page.evaluate(OUTLINED_PIXELS) == 0 and "Speaking" not in page.get_attribute("#heat", "aria-label")


def test_a_video_that_was_held_upright_and_is_small_has_the_python_engines_maps(page, tmp_path):
    clip = turn(write_talking(tmp_path / "upright.mp4", 0.4), 90)
    open_file(page, clip)
    found = maps_of(page)
    for frame in diffsal.predict(diffsal.load("compact"), clip, indices=sorted(found)):
        assert cc(found[frame.index], frame.saliency) >= 0.999
    assert len(found) == 5 and frame.saliency.shape == (512, 256)


def test_a_picture_has_the_python_engines_map(page, picture):
    open_file(page, picture)
    frame = next(iter(diffsal.predict(diffsal.load("compact"), picture)))
    assert cc(maps_of(page)[0], frame.saliency) >= 0.999


def test_of_files_opened_at_once_the_last_is_shown(page, clip, picture):
    page.evaluate(
        """async ([clip, picture]) => {
          const canvas = new OffscreenCanvas(4000, 4000); // takes longer to open than the picture after it
          canvas.getContext("2d").fillRect(0, 0, 4000, 2000);
          const file = (data, name, type) =>
            new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, { type });
          const large = new File([await canvas.convertToBlob()], "large.png", { type: "image/png" });
          const files = [file(clip, "clip.mp4", "video/mp4"), large, file(picture, "picture.png", "image/png")];
          for (const chosen of files) {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(chosen);
            document.dispatchEvent(new DragEvent("drop", { dataTransfer }));
          }
          await createImageBitmap(large); // by now the page has opened it too
        }""",
        [base64.b64encode(path.read_bytes()).decode() for path in (clip, picture)],
    )
    wait_for(page, picture.name, "done")
    found = maps_of(page)
    assert list(found) == [0] and page.text_content("#status") == "Done."
    frame = next(iter(diffsal.predict(diffsal.load("compact"), picture)))
    assert cc(found[0], frame.saliency) >= 0.999
    assert page.evaluate("() => document.getElementById('picture').width") == frame.saliency.shape[1]


@pytest.mark.parametrize("name", ["broken.mp4", "broken.png"])
def test_a_broken_file_is_told(page, clip, tmp_path, name):
    (tmp_path / name).write_bytes(b"not a file of this kind" * 50)
    page.set_input_files("#file", str(clip))
    open_file(page, tmp_path / name, "failed")
    assert page.get_attribute("#status", "class") == "failed"
    assert page.text_content("#status").startswith(name)
    assert maps_of(page) == {}


def test_a_region_is_drawn_by_keys_and_its_share_saved(page, picture, tmp_path):
    open_file(page, picture)
    page.focus("#region")
    for key in ("Enter", *["ArrowLeft"] * 5, *["Shift+ArrowDown"] * 10, "Enter"):
        page.keyboard.press(key)
    assert page.text_content("#status") == "Region 1 added."
    assert page.evaluate("() => document.activeElement.id") == "region"
    with page.expect_download() as saved:
        page.click("#save-json")
    saved.value.save_as(tmp_path / "attention.json")
    document = json.loads((tmp_path / "attention.json").read_text())
    left, top, right, bottom = document["regions"][0]["box"]
    assert [round(v, 6) for v in (left, top, right, bottom)] == [0.3, 0.4, 0.5, 0.8]
    own = maps_of(page)[0]
    y, x = [(np.arange(n) + 0.5) / n for n in own.shape]
    inside = own[np.ix_((y >= top) & (y < bottom), (x >= left) & (x < right))].sum() / own.sum()
    assert document["frames"][0]["regions"]["Region 1"] == pytest.approx(inside, abs=1e-6)
    assert page.text_content("#regions output") == f"{100 * inside:.0f} %"
    page.click("#regions button")
    assert page.locator("#regions li").count() == 0


def test_the_camera_has_a_map_until_a_file_is_opened(page, picture):
    page.click("#camera")
    wait(page, "diffsalMaps().length && diffsalMaps()[0].index > 1")
    assert page.evaluate("() => diffsalMaps().length") == 1  # a stream without end keeps no past
    open_file(page, picture)
    assert list(maps_of(page)) == [0]
    assert page.evaluate("() => document.getElementById('video').srcObject") is None
