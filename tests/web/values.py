"""What diffsal's own functions give for inputs that the page's unit tests make too.

    python -m tests.web.values

writes ``web/tests/python.json``, which ``web/tests/python.test.ts`` and ``speakers.test.ts`` compare the page with.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import av
import cv2
import numpy as np

from diffsal.config import Finish
from diffsal.media.mel import YAMNET_OFFSET, Sound, log_mel, resample
from diffsal.media.mfcc import mfcc_rows
from diffsal.media.orientation import upright
from diffsal.media.source import Frame
from diffsal.prediction import speakers
from diffsal.prediction.face_tracks import FaceTracks, crop_face
from diffsal.prediction.faces import FaceDetector
from diffsal.prediction.finish import brightness, finish_map, moving_alone, smoothing_of
from diffsal.prediction.hearing import Synchrony
from diffsal.prediction.maps import FinishedMaps, smooth
from diffsal.prediction.noise import frame_noise
from diffsal.prediction.speakers import Speakers, SpeakingFace, speaking_map

FILE = Path(__file__).parents[2] / "web" / "tests" / "python.json"
RATE = 16_000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CENTRE = ((-3.0, -1.0, -2.0), (-1.0, 0.0, -1.5))


def values() -> dict[str, Any]:
    """Every value, by the name of what gives it, to six digits behind the point."""
    found = {
        "noise": noise(), "rgb": rgb(), "resampled": resampled(), "mel": mel(), "shrunk": shrunk(), **finished(),
        "smooth": smoothed(), "synchrony": synchrony(), "mfcc": coefficients(), "faces": faces(), "tracks": tracks(),
        "crops": crops(), "speaking_map": speaking(), "stream": stream(),
    }  # fmt: skip
    plain = json.dumps(found, default=lambda x: np.asarray(x, float).tolist())
    return json.loads(plain, parse_float=lambda digits: round(float(digits), 6))


def noise() -> dict[str, Any]:
    drawn = frame_noise(224, 384, 0, 7).ravel()
    return {"first": drawn[:16], "last": drawn[-4:]}


def rgb() -> list[np.ndarray]:
    """Of planes of all values: BT.709 and BT.601, each in television's range and in full."""
    planes = (np.arange(64 * 6) * 29 % 256).astype(np.uint8).reshape(6, 64)  # four rows of Y, one of U, one of V
    found = []
    for matrix in (1, 5):  # as FFmpeg numbers them
        for colour_range in (1, 2):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.colorspace, frame.color_range = matrix, colour_range
            found.append(upright(frame)[:, ::7].ravel())
    return found


def resampled() -> np.ndarray:
    t = np.arange(4410) * 2 * np.pi / 44_100
    wave = (0.3 * np.sin(440 * t) + 0.1 * np.sin(3000 * t)).astype(np.float32)
    return resample(wave, 44_100, RATE)[400:420]


def tone(seconds: float) -> np.ndarray:
    return np.trunc(0.3 * np.sin(np.arange(round(RATE * seconds)) * 2 * np.pi * 440 / RATE) * 32_767).astype(np.int16)


def mel() -> np.ndarray:
    return log_mel(Sound(tone(1), RATE).excerpt(1600, 2000), YAMNET_OFFSET)[0, :8]


def picture(height: int, width: int, step: int = 37) -> np.ndarray:
    """uint8 (height, width, 3): rows of numbers that seem random."""
    grey = np.arange(height * width).reshape(height, width, 1) * step % 251
    return np.minimum(255, grey + np.array([0, 5, 9])).astype(np.uint8)


def shrunk() -> list[np.ndarray]:
    """To a size with fractions, to one of which a side is larger, to a half, and to a quarter."""
    sizes = ((8, 5), (13, 19), (10, 6), (5, 3))
    return [cv2.resize(picture(12, 20), size, interpolation=cv2.INTER_AREA).ravel() for size in sizes]


def finished() -> dict[str, Any]:
    i = np.arange(24 * 32 * 3)
    images = [(i * (7 + k) % 253).astype(np.uint8).reshape(24, 32, 3) for k in range(3)]
    bright = np.stack([brightness(image, MEAN, STD) for image in images])
    moving = moving_alone(bright * np.float32(0.005))
    raw = (np.arange(48) / 60 + 0.05).astype(np.float32).reshape(6, 8)
    finish = Finish(exponent=1.1, motion_gain=1.25, sound_gain=0.5, speaker_gain=0.25, centre_gain=0.45, centre=CENTRE)
    return {"brightness": bright[1].ravel(), "moving": moving.ravel(),
            "finished": finish_map(raw, finish, moving, bright[0], bright[2]).ravel()}


def smoothed() -> list[list[float]]:
    """Nine maps of two values, of every second frame, each as the mean of those around it."""
    finish, frame_rate = Finish(past_seconds=0.3, future_seconds=0.2), 15
    maps = [
        FinishedMaps(Frame(2 * k, 2 * k / frame_rate, shot(0)), np.array([[[k * k % 7, k]]], np.float32))
        for k in range(9)
    ]
    return [mean.maps.ravel().tolist() for mean in smooth(maps, smoothing_of(finish, frame_rate))]


def synchrony() -> np.ndarray:
    stream = Synchrony(4, 8)
    for k in range(12):
        loud = 5 * k % 7
        frame = 0.02 * loud * np.sin(np.arange(48) * (k % 4 + 1))
        stream.add(frame.astype(np.float32).reshape(6, 8), loud)
    return stream.at(9).ravel()


def coefficients() -> np.ndarray:
    """Three rows at the beginning of a sound that starts late, of which the first lie before it."""
    return mfcc_rows(Sound(tone(1), RATE, 0.5), 0.48, 3).ravel()


class YuNet:
    """In the place of the graph: numbers without meaning, and what it was given."""

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="input")]

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.given = given["input"]
        cells = {str(s): self.given.shape[2] * self.given.shape[3] // s**2 for s in (8, 16, 32)}
        return [numbers(kind, cells[stride]) for kind, stride in (name.split("_") for name in names)]


def numbers(kind: str, cells: int) -> np.ndarray:
    i = np.arange(cells * (4 if kind == "bbox" else 1))
    found = np.sin(i * 2.3) if kind == "bbox" else 0.7 + 0.5 * np.cos(i * {"cls": 0.9, "obj": 1.7}[kind])
    return found.astype(np.float32).reshape(1, cells, -1)


def faces() -> dict[str, Any]:
    detector = FaceDetector()
    detector.session = YuNet()
    boxes = detector.detect(picture(40, 50))
    large = detector.detect(picture(400, 640))[:9]
    given = detector.session.given[0]
    edge = given[:, 199:201, :3]  # the picture's last row and the first below it
    return {"boxes": boxes.ravel(), "large": large.ravel(), "shape": given.shape, "given": edge.ravel()}


def tracks() -> list[Any]:
    """Places of the live tracks after each of nine detections: faces that wander, come, go, and are too many."""
    follow, found = FaceTracks(), []
    for k in range(9):
        boxes = [[10 + 6 * k, 20, 30, 40, 0.9]]
        boxes += [[120 - 7 * k, 25 + k, 36, 30, 0.8]] if k not in (2, 3) else []
        boxes += [[200, 10, 20, 20, 0.7]] if k < 4 else []
        boxes += [[20 * n, 100, 10 + n, 12, 0.65] for n in range(6)] if k == 5 else []
        follow.link(5 * k, np.array(boxes, np.float32))
        for _ in range(5):
            follow.hold()
        found.append([[track.number, *track.place] for track in follow.live])
    return found


def crops() -> list[np.ndarray]:
    """Every sixteenth pixel: inside, over the edge, large enough to be shrunk first, and outside."""
    places = ((80, 60, 20), (5.5, 3, 31), (230.3, 120.6, 190), (900, 60, 20))
    return [crop_face(picture(300, 400), place)[::16, ::16].ravel() for place in places]


def speaking() -> np.ndarray:
    people = [SpeakingFace(1, 20, 10, 20, 40, 0.9, 0.8), SpeakingFace(2, 140, 60, 12, 10, 0.9, 0.3)]
    return speaking_map(people, 90, 160)[::8, ::12].ravel()


class TwoFaces(YuNet):
    """Two faces, which move as the picture gets brighter."""

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        bright = given["input"].mean() / 255
        found = {name: np.zeros((1, 6, 4 if name.startswith("bbox") else 1), np.float32) for name in names}
        for cell in (0, 5):
            found["cls_32"][0, cell] = found["obj_32"][0, cell] = 0.9
            found["bbox_32"][0, cell] = [0.3 + bright, 0.4, -0.2, 0]
        return [found[name] for name in names]


class Encoder:
    """In the place of LR-ASD's face encoder: two convolutions over time, of 5 and 3 moments."""

    def get_inputs(self) -> list[Any]:
        shapes = {"crops": (5, 112, 112)} | {f"past_0_{k}": (1, 2, 1, 1) for k in range(4)}
        shapes |= {f"past_1_{k}": (1, 1, 1, 1) for k in range(2)}
        return [SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()]

    def run(self, names: list[str], given: dict[str, np.ndarray], options: Any) -> list[np.ndarray]:
        grey = given["crops"].mean(axis=(1, 2)) / 100
        first = [*(given[f"past_0_{k}"][0, 1, 0, 0] for k in range(4)), *grey]
        middle = [sum((k + 1) * first[i + k] for k in range(5)) for i in range(5)]
        second = [*(given[f"past_1_{k}"].item() for k in range(2)), *middle]
        found = {f"new_0_{i}": np.array([0, grey[i]], np.float32).reshape(1, 2, 1, 1) for i in range(5)}
        found |= {f"new_1_{i}": np.array(middle[i], np.float32).reshape(1, 1, 1, 1) for i in range(5)}
        sums = np.array([second[i] - second[i + 1] + second[i + 2] for i in range(5)])
        found["features"] = np.outer(sums, np.cos(np.arange(128))).astype(np.float32)
        return [found[name] for name in names]


class SoundEncoder:
    def run(self, names: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        means = given["mfcc"][:, 0].reshape(-1, 4).mean(axis=1)
        return [np.outer(means, np.sin(np.arange(128))).astype(np.float32)]


class Decision:
    def run(self, names: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [given["faces"][:, 0] / 20 + given["sound"][:, 1] / 15 - np.arange(len(given["faces"])) / 40]


def stream() -> list[Any]:
    """The faces of every fifth frame, asked for eight frames later; silence, a cut and a frame that stands too long."""
    graphs = {"lr_asd_faces.onnx": Encoder(), "lr_asd_sound.onnx": SoundEncoder(), "lr_asd_decision.onnx": Decision()}
    detector = FaceDetector()
    detector.session = TwoFaces()
    wave = tone(5)
    wave[RATE * 6 // 10 : RATE * 26 // 10] = 0
    found = []
    with patch.object(speakers, "graph_session", graphs.get):
        people = Speakers(30, Sound(wave, RATE, 0.1), detector)
        read = [Frame(k, k / 30 + (1.5 if k >= 120 else 0), shot(k)) for k in range(130)]
        for frame in read:
            people.read(frame)
            if frame.index >= 8 and frame.index % 5 == 3:
                found.append(people.faces(read[frame.index - 8]))
    return found


def shot(k: int) -> np.ndarray:
    """uint8 (60, 90, 3): a ramp that gets brighter, and from frame 100 on another shot's."""
    ramp = np.arange(90) + (20 if k < 100 else 120) + k % 7
    return np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (60, 90, 3)).astype(np.uint8))


if __name__ == "__main__":
    FILE.write_text(json.dumps(values()) + "\n")
