"""Whose face speaks: LR-ASD on every face of a stream and its sound, and the map by which the finish looks at them.

A face is found by YuNet, followed, and cropped 25 times a second on the clip's clock. Five times a second LR-ASD scores
what was seen and heard in the last seconds. Without sound, in silence, and where no face is, nothing is computed.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray

from diffsal.config import FACE_CROP_SIDE, FACE_CROPS
from diffsal.media.mel import SAMPLE_RATE, Sound
from diffsal.media.mfcc import ROWS_PER_SECOND, mfcc_rows
from diffsal.prediction.face_tracks import (
    DETECT_EVERY,
    MOMENTS_PER_SECOND,
    Cuts,
    FaceTrack,
    FaceTracks,
    crop_face,
)
from diffsal.prediction.faces import FaceDetector, graph_session
from diffsal.shapes import Float

if TYPE_CHECKING:
    from diffsal.media.source import Frame

SEEN_AFTER = 9  # moments after one that the face encoder needs to see for its features: its reach in time
PIECE_MOMENTS = 100  # that LR-ASD decides from: the last 4 s
LEAST_MOMENTS = 8  # of features from which on a face has a score
MEAN_MOMENTS = 12  # whose scores' mean counts: 0.5 s
ROWS_PER_MOMENT = ROWS_PER_SECOND // MOMENTS_PER_SECOND  # 4
SOUND_BLOCK = 50  # moments of sound that are encoded together
SOUND_CONTEXT = 6  # moments on each side that the sound encoder's reach needs
SILENT = 3e-4  # root mean square of full scale below which nothing is heard: -70 dB
SILENT_SECONDS = (-0.5, 1.0)  # around a moment, where all must be silent
LONGEST_FRAME_SECONDS = 1.0  # a frame that stands longer ends the shot: what happened meanwhile is not known
KEPT_FRAMES = 64  # for which what was found can be asked for: more than are ever read ahead
LEAST_RATE = 0.1  # frames per second below which fewer are kept
HISTORY_SECONDS = 6.0  # before the first map that are read, so that it is as if all had been
MAP_SIZE = (56, 96)
FACES_AT_ONCE = 2  # that are encoded side by side: most of the time goes there
FACE_SPREAD = 0.75  # standard deviation of a face's Gaussian, in its larger sides: docs/compact.md, "Who speaks"


class SpeakingFace(NamedTuple):
    """A face at one moment: its track's number, box in pixels, YuNet's confidence, and how surely it speaks.

    ``speaking`` is the sigmoid of LR-ASD's mean score over the last half second; None where too little was seen.
    """

    track: int
    left: float
    top: float
    width: float
    height: float
    confidence: float
    speaking: float | None


@dataclass(eq=False)
class _Seen:
    """What LR-ASD has seen of one track: crops that wait, the encoder's state, and the last features."""

    track: FaceTrack
    states: list[deque[ndarray]]  # what each convolution over time saw last
    first: int  # moment of its first crop
    crops: list[ndarray] = field(default_factory=list)
    features: deque[ndarray] = field(default_factory=lambda: deque(maxlen=PIECE_MOMENTS))
    encoded: int = 0  # crops that have gone through the encoder
    score: float | None = None


class Speakers:
    """The stream: :meth:`read` each frame in order, then ask for a frame's map or faces.

    What is known of a frame depends on what comes before it and on no more than 0.04 s after it, however far was read.
    ``sound`` None: nothing is computed and there are never faces. Memory does not grow.
    """

    def __init__(self, frame_rate: float, sound: Sound | None, detector: FaceDetector | None = None) -> None:
        self.sound = sound
        self.frame_rate = frame_rate
        self.detector = detector or FaceDetector()
        self.tracks, self.cuts = FaceTracks(), Cuts()
        self.seen: dict[int, _Seen] = {}
        self.heard = None if self.sound is None else _SoundFeatures(self.sound)
        self.scorer = _Scorer()
        self.pool = ThreadPoolExecutor(FACES_AT_ONCE)
        self.moment = 0  # the next one
        self.is_new_shot = True
        self.before: Frame | None = None
        kept = KEPT_FRAMES * MOMENTS_PER_SECOND / max(frame_rate, LEAST_RATE)
        self.known: deque[tuple[int, tuple[int, int], tuple[SpeakingFace, ...]]] = deque(
            maxlen=math.ceil(max(KEPT_FRAMES, kept)))

    @property
    def num_before(self) -> int:
        """How many frames before the first wanted one are to be read."""
        return 0 if self.sound is None else round(HISTORY_SECONDS * self.frame_rate)

    def read(self, frame: Frame) -> None:
        """The next frame, RGB at its full size: the moments that are nearest to it are looked at."""
        if self.sound is None:
            return
        half = 0.5 / max(self.frame_rate, 1e-3)
        before, self.before = self.before, frame.packed()
        last_moment = int(np.ceil((frame.seconds + half) * MOMENTS_PER_SECOND - 1e-6))
        if before is None or frame.seconds - before.seconds > LONGEST_FRAME_SECONDS:
            self._end_shot()
            self.moment = max(self.moment, int(np.ceil((frame.seconds - half) * MOMENTS_PER_SECOND - 1e-6)))
        elif self.moment < last_moment and self.cuts.is_first_of_shot(frame.image):
            self._end_shot()
        while self.moment < last_moment:
            seconds = self.moment / MOMENTS_PER_SECOND
            nearer = before is not None and seconds - before.seconds < frame.seconds - seconds
            self._look(before if nearer and before is not None else frame)
            self.moment += 1

    def faces(self, frame: Frame) -> tuple[SpeakingFace, ...]:
        """The faces at a frame that was read not long ago; another thread may read on meanwhile."""
        wanted = int(np.floor(frame.seconds * MOMENTS_PER_SECOND + 0.5))
        for moment, _, faces in reversed(self.known.copy()):
            if moment <= wanted:
                return faces
        return ()

    def _look(self, frame: Frame) -> None:
        """One moment: find or follow the faces, keep their crops, score them when enough has come together."""
        image, seconds = frame.image, self.moment / MOMENTS_PER_SECOND
        assert self.heard is not None
        if self.heard.is_silent(seconds):
            self._end_shot()
        else:
            if self.moment % DETECT_EVERY == 0 or self.is_new_shot:
                self.tracks.link(self.moment, self.detector.detect(image))
                self.is_new_shot = False
            self.tracks.hold()
            self._crop(image)
            if (self.moment + 1) % DETECT_EVERY == 0:
                self._score()
        faces = tuple(self._speaking_face(track) for track in self.tracks.live)
        self.known.append((self.moment, image.shape[:2], faces))

    def _speaking_face(self, track: FaceTrack) -> SpeakingFace:
        left, top, width, height, confidence = map(float, track.box)
        score = self.seen[track.number].score if track.number in self.seen else None
        speaking = None if score is None else float(score)
        return SpeakingFace(track.number, left, top, width, height, confidence, speaking)

    def _crop(self, image: ndarray) -> None:
        live = {track.number for track in self.tracks.live}
        self.seen = {number: seen for number, seen in self.seen.items() if number in live}
        for track in self.tracks.live:
            if track.number not in self.seen:
                self.seen[track.number] = _Seen(track, self.scorer.new_states(), first=self.moment)
            self.seen[track.number].crops.append(crop_face(image, track.place))

    def _score(self) -> None:
        """Features of the crops that wait, and each face's score from the last seconds."""
        assert self.heard is not None
        waiting = [seen for seen in self.seen.values() if seen.crops]
        for seen, features in zip(waiting, self.pool.map(self.scorer.encode_faces, waiting), strict=True):
            late = max(0, SEEN_AFTER - seen.encoded)  # what the encoder gives for moments before the first
            seen.encoded += len(features)
            seen.features.extend(features[late:])
            count = len(seen.features)
            if count >= LEAST_MOMENTS:
                last = seen.first + seen.encoded - SEEN_AFTER  # one past the last moment that has features
                sound = self.heard.features(last - count, count)
                logits = self.scorer.decide(np.stack(seen.features), sound)
                seen.score = 1 / (1 + np.exp(-logits[-MEAN_MOMENTS:].mean()))

    def _end_shot(self) -> None:
        self.tracks.end_all()
        self.seen, self.is_new_shot = {}, True


class _SoundFeatures:
    """What LR-ASD hears at each moment, encoded in blocks when it is asked for; the last few blocks are kept."""

    def __init__(self, sound: Sound) -> None:
        self.sound = sound
        self.blocks: dict[int, ndarray] = {}
        self.session: Any = None

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing is heard around a time."""
        start = self.sound.start_seconds
        first, last = (round((seconds + offset - start) * SAMPLE_RATE) for offset in SILENT_SECONDS)
        piece = self.sound.excerpt(first, last)
        return float(np.sqrt(np.mean(np.square(piece, dtype=np.float64)))) < SILENT

    def features(self, first: int, count: int) -> Float[ndarray, "{count} 128"]:
        """Of ``count`` moments from ``first`` on."""
        blocks = range(first // SOUND_BLOCK, (first + count - 1) // SOUND_BLOCK + 1)
        joined = np.concatenate([self._block(number) for number in blocks])
        offset = first - blocks[0] * SOUND_BLOCK
        return joined[offset : offset + count]

    def _block(self, number: int) -> Float[ndarray, "50 128"]:
        if number not in self.blocks:
            if self.session is None:
                self.session = graph_session("lr_asd_sound.onnx")
            first = number * SOUND_BLOCK - SOUND_CONTEXT
            rows = (SOUND_BLOCK + 2 * SOUND_CONTEXT) * ROWS_PER_MOMENT
            mfcc = mfcc_rows(self.sound, first / MOMENTS_PER_SECOND, rows).astype(np.float32)
            encoded = self.session.run(None, {"mfcc": mfcc})[0][SOUND_CONTEXT : SOUND_CONTEXT + SOUND_BLOCK]
            oldest = number - PIECE_MOMENTS // SOUND_BLOCK - 2
            self.blocks = {n: block for n, block in self.blocks.items() if n > oldest} | {number: encoded}
        return self.blocks[number]


class _Scorer:
    """LR-ASD's face encoder and its decision; loaded with the first face."""

    def __init__(self) -> None:
        self.faces: Any = None
        self.decision: Any = None

    def new_states(self) -> list[deque[ndarray]]:
        """A face's beginning: nothing was seen before."""
        if self.faces is None:
            self.faces, self.decision = graph_session("lr_asd_faces.onnx"), graph_session("lr_asd_decision.onnx")
        past: dict[str, list[ndarray]] = {}
        for given in self.faces.get_inputs()[1:]:  # past_J_0, past_J_1, …
            past.setdefault(given.name.rpartition("_")[0], []).append(np.zeros(given.shape, np.float32))
        return [deque(zeros, len(zeros)) for zeros in past.values()]

    def encode_faces(self, seen: _Seen) -> Float[ndarray, "n 128"]:
        """Features of the moments :data:`SEEN_AFTER` before the crops that wait, at most 5, which are taken."""
        assert self.faces is not None
        count, crops = len(seen.crops), np.zeros((FACE_CROPS, FACE_CROP_SIDE, FACE_CROP_SIDE), np.float32)
        crops[:count] = seen.crops
        given = {"crops": crops}
        wanted = [["features"]]
        for j, past in enumerate(seen.states):
            given |= {f"past_{j}_{k}": x for k, x in enumerate(past)}
            wanted.append([f"new_{j}_{i}" for i in range(max(0, count - len(past)), count)])
        found = iter(self.faces.run([name for names in wanted for name in names], given, _only_what_is_asked()))
        features = next(found)[:count]
        for past, names in zip(seen.states, wanted[1:], strict=True):
            past.extend(islice(found, len(names)))
        seen.crops = []
        return features

    def decide(self, faces: Float[ndarray, "n 128"], sound: Float[ndarray, "n 128"]) -> Float[ndarray, " n"]:
        """LR-ASD's scores, positive while the face speaks."""
        assert self.decision is not None
        return self.decision.run(None, {"faces": faces, "sound": np.ascontiguousarray(sound)})[0]


@lru_cache(maxsize=1)
def _only_what_is_asked() -> Any:
    """For a call of a graph: outputs that are not asked for are not computed."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    return options


def speaking_map(
    faces: list[SpeakingFace], height: int, width: int, spread: float = FACE_SPREAD
) -> Float[ndarray, "56 96"]:
    """Each face's score times a Gaussian of ``spread`` of its larger side as standard deviation; the largest counts.

    ``height`` and ``width`` are the picture's, in pixels; 0 far from every face.
    """
    rows, columns = MAP_SIZE
    x = (np.arange(columns) + 0.5) * width / columns - 0.5
    y = ((np.arange(rows) + 0.5) * height / rows - 0.5)[:, None]
    drawn = np.zeros(MAP_SIZE, np.float32)
    for face in faces:
        centre, wide = (face.left + face.width / 2, face.top + face.height / 2), spread * max(face.width, face.height)
        distance = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * wide**2)
        drawn = np.maximum(drawn, np.float32(face.speaking or 0.0) * np.exp(-distance).astype(np.float32))
    return drawn
