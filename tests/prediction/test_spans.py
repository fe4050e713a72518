"""Spans drawn one by one and finished together are the whole, byte for byte: maps, faces, overlay."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffsal.config import Finish, SamplingConfig
from diffsal.media.source import open_source
from diffsal.outputs.render import Outputs, render
from diffsal.prediction import speakers
from diffsal.prediction.pipeline import predict
from diffsal.prediction.spans import DrawnMaps, SpansDiffer, can_split, draw_span, span_starts
from diffsal.runtime.loading import load_engine
from tests.movies import tone, write_movie
from tests.standin import StandIn


class FaceOnSpot:
    """A face that wanders, as a detector finds it: by what is in the picture, and missed now and then."""

    def detect(self, image):
        x = float(np.argmax(image[20, :, 0]))
        if x > 90 and image.sum() % 5 == 0:
            return np.zeros((0, 5), np.float32)
        return np.array([[x / 4 + 10, 12, 24, 24, 0.9]], np.float32)


def draw_all(engine, path, starts, folder, **settings):
    """Each span drawn from the file anew, the last first, as other processes would."""
    folder.mkdir()
    stops = [*starts[1:], None]
    for start, stop in reversed(list(zip(starts, stops, strict=True))):
        draw_span(engine, open_source(path), start, stop, folder / f"{start}", **settings)
    return DrawnMaps([folder / f"{start}" for start in starts])


def test_files_are_the_same_bytes_with_speakers_sound_and_motion(tmp_path, monkeypatch):
    monkeypatch.setattr(speakers, "FaceDetector", FaceOnSpot)
    engine = load_engine("compact", "onnx")
    assert engine.finish.speaker_gain and engine.finish.motion_gain  # else nothing reaches over the seams
    rng = np.random.default_rng(3)
    sound = (tone(3.2, 16_000) * np.repeat(rng.uniform(0.1, 1, 32), 1600)).astype(np.float32)
    path = write_movie(tmp_path / "a.mp4", num_frames=75, size=(80, 120), grain=20, sound=sound,
                       options={"g": "17", "bf": "2"})
    written = {}
    drawn = draw_all(engine, path, [0, 32, 64], tmp_path / "drawn", sampling=SamplingConfig())
    for name, maps in (("whole", None), ("joined", drawn)):
        folder = tmp_path / name
        folder.mkdir()
        outputs = Outputs(folder / "a.mp4", folder / "maps", folder / "a.npz", json=folder / "a.json")
        render(engine, open_source(path), outputs, drawn=maps)
        written[name] = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert len(written["whole"]) == 75 + 3 and written["joined"] == written["whole"]
    frames = json.loads(written["whole"]["a.json"])["frames"]
    assert sum(face["speaking"] is not None for frame in frames for face in frame["faces"]) > 20


@pytest.mark.parametrize("num_frames", [49, 64, 65])
@pytest.mark.parametrize(("every", "samples", "by_frame", "step"), [(1, 1, True, 1), (2, 3, True, 2), (3, 1, False, 1)])
def test_every_way_to_the_end(tmp_path, num_frames, every, samples, by_frame, step):
    path = write_movie(tmp_path / "a.mp4", num_frames=num_frames, sound=tone(num_frames / 25, 16_000, 1.9))
    engine = StandIn(by_frame, frame_step=step)
    engine.batch_size, engine.finish = 1, Finish(motion_gain=1.0, sound_gain=1.0)
    drawn = draw_all(engine, path, [0, 24, 48], tmp_path / "spans", sampling=SamplingConfig(seed=5), samples=samples,
                     every=every)
    settings = {"every": every, "samples": samples, "seed": 5}
    whole = list(predict(engine, path, **settings))
    calls, encoded = len(engine.calls), engine.num_encoded
    joined = list(predict(engine, path, drawn=drawn, **settings))
    assert (len(engine.calls), engine.num_encoded) == (calls, encoded)  # the network has not run again
    assert len(whole) == len(joined) == num_frames
    for one, two in zip(whole, joined, strict=True):
        assert np.array_equal(one.saliency, two.saliency) and one.index == two.index
        assert samples == 1 or np.array_equal(one.spread, two.spread)


def test_frames_that_are_not_those_of_the_spans_are_found_out(tmp_path):
    engine = StandIn()
    engine.batch_size = 1
    path = write_movie(tmp_path / "a.mp4", num_frames=60)
    other = write_movie(tmp_path / "b.mp4", num_frames=60, grain=90)
    longer = write_movie(tmp_path / "c.mp4", num_frames=70)
    drawn = draw_all(engine, path, [0, 32], tmp_path / "spans", sampling=SamplingConfig())
    assert len(list(predict(engine, path, drawn=drawn))) == 60
    for wrong in (other, longer):
        with pytest.raises(SpansDiffer, match="frame"):
            list(predict(engine, wrong, drawn=DrawnMaps([tmp_path / "spans/0", tmp_path / "spans/32"])))
    with pytest.raises(SpansDiffer, match="frame"):  # of the second span
        list(predict(engine, path, drawn=DrawnMaps([tmp_path / "spans/0"])))


def test_a_video_is_split_evenly_where_a_map_does_not_depend_on_its_neighbours(tmp_path):
    engine = StandIn()
    source = open_source(write_movie(tmp_path / "a.mp4", num_frames=300))
    assert not can_split(engine) and span_starts(engine, source, 1, 2.0) == [0]
    engine.batch_size = 1
    assert span_starts(engine, source, None, 5.0) == [0, 160]  # 150 frames, to the next 2 × 16
    assert span_starts(engine, source, 1, 2.0) == [0, 64, 128, 192, 256]
    for seconds in (6.0, 60.0, 0.0):  # no longer than two spans; not wanted
        assert span_starts(engine, source, None, seconds) == [0]
    source.num_frames = None
    assert span_starts(engine, source, None, 2.0) == [0]
