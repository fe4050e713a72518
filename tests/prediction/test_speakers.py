"""Who speaks: LR-ASD as its authors compute it, and a stream that costs nothing where nothing is heard or seen."""

import numpy as np
import pytest

from diffsal.media.mel import Sound
from diffsal.media.mfcc import mfcc, mfcc_rows
from diffsal.media.source import Frame, open_source
from diffsal.prediction import speakers
from diffsal.prediction.face_tracks import Cuts, FaceTracks, crop_face
from diffsal.prediction.faces import FaceDetector, graph_session
from diffsal.prediction.speakers import Speakers, SpeakingFace, speaking_map
from tests.conftest import GOLDEN, SHARED
from tests.golden.fill import noise
from tests.talking import write_talking

RATE = 16_000
FRAME_RATE = 25.0


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "lr_asd.npz")


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    t = np.arange(32_000) / RATE
    return np.int16(3000 * noise("lr_asd.wave", (32_000,)) + 8000 * np.sin(2 * np.pi * 180 * t))


def test_coefficients_equal_those_of_the_reference(golden, wave):
    np.testing.assert_allclose(mfcc(wave), golden["mfcc"], atol=1e-6)


def test_a_piece_of_a_sound_has_the_rows_of_the_whole(golden, wave):
    sound = Sound(wave.astype(np.float32) / 32_768, RATE, 1.0)
    np.testing.assert_allclose(mfcc_rows(sound, 1.5, 40), golden["mfcc"][50:90], atol=1e-4)


def test_the_graphs_equal_the_reference(golden):
    """Weights are stored in half precision: features agree to 1e-2 of their spread, decisions with them."""
    sound = graph_session("lr_asd_sound.onnx").run(None, {"mfcc": golden["mfcc"][:196].astype(np.float32)})[0]
    assert np.abs(sound - golden["audio"]).max() < 5e-3 * golden["audio"].std()
    crops = np.clip(106 + 43 * noise("lr_asd.faces", (1, 50, 112, 112))[0, :49], 0, 255)
    faces = streamed(np.concatenate([crops, np.zeros((0, 112, 112), np.float32)]))
    whole = golden["faces"][:40]  # the last nine moments see what comes after, which a stream has not had
    assert np.abs(faces[9:49] - whole)[9:31].max() < 5e-3 * golden["faces"].std()
    decision = graph_session("lr_asd_decision.onnx")
    scores = decision.run(None, {"faces": golden["faces"], "sound": golden["audio"]})[0]
    np.testing.assert_allclose(scores, golden["logits"][:, 1] - golden["logits"][:, 0], atol=5e-3)


def streamed(crops: np.ndarray) -> np.ndarray:
    scorer = speakers._Scorer()
    seen = speakers._Seen(None, scorer.new_states(), 0)
    found = []
    for i in range(0, len(crops), 5):
        seen.crops = list(crops[i : i + 5].astype(np.float32))
        found.append(scorer.encode_faces(seen))
    return np.concatenate(found)


class Faces:
    """A detector that finds what it is told, and counts its calls."""

    def __init__(self, *boxes):
        self.boxes, self.calls = np.array(boxes, np.float32).reshape(-1, 5), 0

    def detect(self, image):
        self.calls += 1
        return self.boxes


def frames(count: int, rate: float = FRAME_RATE, value: int | None = None):
    rng = np.random.default_rng(0)
    for i in range(count):
        image = rng.integers(0, 255, (90, 160, 3), dtype=np.uint8) if value is None else np.full((90, 160, 3), value,
                                                                                                 np.uint8)
        yield Frame(i, i / rate, image)


def loud(seconds: float) -> Sound:
    return Sound(np.random.default_rng(1).normal(0, 0.1, int(RATE * seconds)).astype(np.float32), RATE)


@pytest.mark.parametrize("sound", [None, Sound(np.zeros(RATE * 3, np.float32), RATE)])
def test_without_sound_and_in_silence_nothing_is_computed(sound):
    detector = Faces((40, 20, 30, 30, 0.9))
    stream = Speakers(FRAME_RATE, sound, detector)
    for frame in frames(40):
        stream.read(frame)
        assert stream.faces(frame) == ()
    assert detector.calls == 0 and stream.scorer.faces is None and (sound is None) == (stream.num_before == 0)


def test_where_no_face_is_the_networks_are_not_loaded():
    detector = Faces()
    stream = Speakers(FRAME_RATE, loud(3), detector)
    for frame in frames(50):
        stream.read(frame)
    assert detector.calls == 10 and stream.scorer.faces is None and stream.heard.session is None


@pytest.mark.parametrize("rate", [12.5, 25.0, 30.0, 60.0])
def test_a_face_is_followed_and_scored_at_any_frame_rate(rate):
    stream = Speakers(rate, loud(4), Faces((40, 20, 30, 30, 0.9)))
    for frame in frames(int(3 * rate), rate, 90):
        stream.read(frame)
    (face,) = stream.faces(frame)
    assert face.track == 1 and face[1:5] == (40, 20, 30, 30) and 0 <= face.speaking <= 1
    assert stream.moment == pytest.approx((int(3 * rate) - 0.5) / rate * 25, abs=1)


def test_memory_does_not_grow_and_old_frames_can_be_asked_for():
    stream = Speakers(FRAME_RATE, loud(12), Faces((40, 20, 30, 30, 0.9)))
    last = None
    for frame in frames(290, value=90):
        stream.read(frame)
        last = last or frame
    assert len(stream.known) == speakers.KEPT_FRAMES and len(stream.heard.blocks) <= 5
    (seen,) = stream.seen.values()
    assert len(seen.features) == speakers.PIECE_MOMENTS and len(seen.crops) < 5
    assert stream.faces(Frame(280, 280 / 25, last.image))


def test_a_cut_ends_the_tracks():
    stream = Speakers(FRAME_RATE, loud(4), Faces((40, 20, 30, 30, 0.9)))
    for i, value in enumerate([40] * 30 + [200] * 30):
        frame = Frame(i, i / FRAME_RATE, np.full((90, 160, 3), value, np.uint8))
        stream.read(frame)
        if i in (29, 59):
            assert [face.track for face in stream.faces(frame)] == [1 if i == 29 else 2]
    cuts = Cuts()
    assert [cuts.is_first_of_shot(np.full((9, 16, 3), v, np.uint8)) for v in (10, 12, 90, 92)] == [
        False, False, True, False]


def test_what_is_known_of_a_frame_does_not_depend_on_how_far_was_read():
    sound, faces = loud(4), Faces((40, 20, 30, 30, 0.9))
    found = []
    for ahead in (1, 12):
        stream, asked = Speakers(FRAME_RATE, sound, faces), []
        read = list(frames(80))
        for i, frame in enumerate(read):
            stream.read(frame)
            if i >= ahead:
                asked.append(stream.faces(read[i - ahead]))
        found.append(asked[:60])
    assert found[0] == found[1] and any(face.speaking is not None for faces in found[0] for face in faces)


def test_a_track_ends_when_its_face_is_missed_three_times():
    tracks = FaceTracks()
    for moment, boxes in enumerate(([[0, 0, 10, 10, 1]], [[2, 0, 10, 10, 1]], [], [], [[0, 0, 10, 10, 1]], [], [], [])):
        tracks.link(moment, np.array(boxes, float).reshape(-1, 5))
    assert tracks.live == [] and tracks.begun == 1


def test_the_map_is_each_faces_gaussian_times_its_score():
    faces = [SpeakingFace(1, 20, 10, 20, 40, 0.9, 0.8), SpeakingFace(2, 140, 60, 10, 10, 0.9, 0.1)]
    found = speaking_map(faces, 112, 192)  # two pixels for each place of the map
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert (x, y) == (15, 15) and found.max() == pytest.approx(0.8, abs=1e-3)
    at = found[15, 30]  # three quarters of its 40 pixels to the right: exp(-1/2)
    assert at == pytest.approx(0.8 * np.exp(-0.5), rel=0.05)
    assert found[32, 72] == pytest.approx(0.1, rel=0.1) and found[55, 0] < 0.02
    narrow = speaking_map(faces, 112, 192, spread=0.5)
    assert narrow[15, 25] == pytest.approx(0.8 * np.exp(-0.5), rel=0.05)


def test_a_crop_is_the_middle_of_what_the_authors_cut():
    image = np.zeros((200, 200, 3), np.uint8)
    image[60:140, 60:140] = 255
    crop = crop_face(image, (100, 100, 40))  # rows 88 to 144, columns 72 to 128
    assert crop.shape == (112, 112) and crop[:100].min() == 255 and crop[-6:].max() < 200
    assert (crop_face(image, (500, 500, 40)) == 110).all()


def test_of_two_faces_the_one_whose_mouth_moves_with_the_voice_speaks(tmp_path):
    source = open_source(write_talking(tmp_path / "talking.mp4", 1.8))
    stream = Speakers(source.frame_rate, source.sound())
    for frame in source.frames():
        stream.read(frame)
    left, right = sorted(stream.faces(frame), key=lambda face: face.left)
    assert left.speaking > 0.9 and right.speaking < 0.1


@pytest.mark.skipif(not (SHARED / "weights/yunet_n.onnx").exists(), reason="needs the shared weights and clips")
def test_boxes_are_those_of_opencvs_own_reading_of_yunet():
    import cv2

    capture = cv2.VideoCapture(str(SHARED / "gaze/videos/find/021.mp4"))
    image = capture.read()[1]
    image = cv2.resize(image, (320, 160))
    detector = cv2.FaceDetectorYN.create(str(SHARED / "weights/yunet_n.onnx"), "", (320, 160), 0.6, 0.3)
    expected = detector.detect(image)[1]
    found = FaceDetector().detect(np.ascontiguousarray(image[..., ::-1]))
    assert len(found) == len(expected) >= 2
    np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=0.5)
