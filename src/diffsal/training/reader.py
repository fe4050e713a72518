"""What an example is made of: frames at the network's size, where people looked, sound, and the finish's priors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from diffsal.config import ModelConfig
from diffsal.data.clip import Clip
from diffsal.data.databases.gaze import GazeClip, GazeTruth
from diffsal.data.truth import count_fixations, draw_map, to_pixels
from diffsal.errors import InputError
from diffsal.media.mel import MelTrack, Sound
from diffsal.media.windows import window_indices
from diffsal.prediction.finish import brightness, moving_alone
from diffsal.prediction.hearing import Synchrony
from diffsal.training.packed_frames import PackedFrames
from diffsal.training.samplers import View

CACHED_TRACKS = 32  # sounds that each worker keeps open
TARGET_STRIDE = 2  # maps of fixations are drawn at half the network's size and enlarged
SILENCE = Sound(np.zeros(1, np.int16), 16_000)

People = tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]


class Reader:
    """Views of ``clips``, decoded, or from ``packed`` frames.

    ``pooled``: by a clip's position, more people for it, each with what one of their fixations is worth.
    ``min_fixations``: on a frame that is :meth:`annotated`; 0 asks for a map only.
    """

    def __init__(
        self, clips: list[Clip], model: ModelConfig, packed: PackedFrames | None = None,
        pooled: dict[int, list[tuple[GazeClip, float]]] | None = None, min_fixations: int = 0,
    ) -> None:
        self.clips, self.model, self.packed = clips, model, packed
        self.pooled, self.min_fixations = pooled or {}, min_fixations
        self._forget()

    def _forget(self) -> None:
        self.track = lru_cache(maxsize=CACHED_TRACKS)(self._track)
        self.synchrony = lru_cache(maxsize=CACHED_TRACKS)(self._synchrony)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "track": None, "synchrony": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def name(self, view: View) -> str:
        clip = self.clips[view.clip]
        return f"{clip.dataset} {clip.name} frame {view.index}"

    def num_frames(self, clip: int) -> int:
        return self.packed.num_frames[clip] if self.packed is not None else self.clips[clip].num_frames

    def annotated(self, clip: int) -> list[int]:
        """Frames that can be learned from or scored."""
        if not self.min_fixations:
            return self.clips[clip].annotated
        return [i for i in range(self.num_frames(clip)) if self.is_enough(View(clip, i))]

    # --- picture --------------------------------------------------------------------------------------------------

    def frames(self, view: View) -> UInt8[np.ndarray, "f h w 3"]:
        """A still's frame, or the window's: each that it needs is read once."""
        count = self.num_frames(view.clip)
        wanted = [view.index] if view.still else window_indices(view.index, count, self.model.num_frames)
        distinct = sorted(set(wanted))
        images = [_varied(image, view) for image in self._resized(view.clip, distinct)]
        return np.stack([images[distinct.index(i)] for i in wanted])

    def _resized(self, clip: int, indices: list[int]) -> Sequence[UInt8[np.ndarray, "h w 3"]]:
        if self.packed is not None:
            return list(self.packed.read(clip, indices))
        size = (self.model.width, self.model.height)
        return [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in self.clips[clip].frames(indices)]

    # --- where people looked --------------------------------------------------------------------------------------

    def target(self, view: View) -> Float[Tensor, "1 h w"]:
        """S_0: drawn from fixations on what is seen, or the database's map of it."""
        clip, size = self.clips[view.clip], (self.model.height, self.model.width)
        if isinstance(clip.truth, GazeTruth):
            places, weights = self._fixations(view, clip.truth)
            height, width = size[0] // TARGET_STRIDE, size[1] // TARGET_STRIDE
            grid = draw_map(places, height, width, clip.width / clip.height, weights=weights)
            return F.interpolate(torch.from_numpy(grid)[None, None], size=size, mode="bilinear")[0]
        given = clip.saliency_map(view.index)
        if given is None:
            raise InputError(f"{clip.video}: has no map of frame {view.index}")
        target = torch.from_numpy(_varied(cv2.resize(given, size[::-1], interpolation=cv2.INTER_LINEAR), view))
        if not target.isfinite().all():
            raise InputError(f"{clip.map_path(view.index)}: the map holds NaN; fetch it again")
        return target[None].float().clamp(0, 1)

    def fixated(self, view: View) -> Bool[Tensor, "1 h w"] | None:
        """The pixels of the network's grid that somebody fixated, of what is seen; None where none are known."""
        people = self.people(view)
        if people is None:
            return None
        height, width = self.model.height, self.model.width
        return torch.from_numpy(count_fixations(to_pixels(people[0], height, width), height, width) > 0)[None]

    def people(self, view: View) -> People | None:
        """Places of the fixations on what is seen, as fractions of it, and what each is worth."""
        clip = self.clips[view.clip]
        if isinstance(clip.truth, GazeTruth):
            return self._fixations(view, clip.truth)
        points, fixated = clip.points(view.index), clip.fixations(view.index)
        if points is None or fixated is None:
            return None
        return _seen((points + 0.5) / (fixated.shape[1], fixated.shape[0]), np.ones(len(points)), view)

    def _fixations(self, view: View, truth: GazeTruth) -> People:
        """Those of the clip's own people, and of the others."""
        seconds = self.clips[view.clip].seconds(view.index)
        sources = [(truth.gaze, 1.0), *self.pooled.get(view.clip, ())]
        rows = [(gaze.on_frame(seconds), weight) for gaze, weight in sources]
        places = np.concatenate([row[:, 3:5] for row, _ in rows])
        return _seen(places, np.concatenate([np.full(len(row), weight) for row, weight in rows]), view)

    def is_enough(self, view: View) -> bool:
        """Whether ``min_fixations`` are on what is seen."""
        people = self.people(view)
        return people is None or len(people[0]) >= self.min_fixations

    # --- sound ----------------------------------------------------------------------------------------------------

    def sound(
        self, view: View, muted: bool, other: np.random.Generator | None = None
    ) -> tuple[Float[Tensor, "1 n m k"] | None, bool]:
        """The audio encoder's input and whether there is anything to hear: silence where there is no sound.

        With ``other``, a clip of the same set and a moment of it that this generator draws. None for a still.
        """
        if self.model.audio_encoder is None or view.still:
            return None, False
        number, index = view.clip, view.index
        if other is not None and self.track(number) is not None:
            number = int(other.choice(self._sounding(self.clips[number].split)))
            index = int(other.integers(self.num_frames(number)))
        clip, track = self.clips[number], None if muted else self.track(number)
        heard = track is not None
        track = track if track is not None else MelTrack(self.model, SILENCE)
        window = track.window(clip.seconds(index), clip.frame_rate, index)
        return (torch.from_numpy(window) if isinstance(window, np.ndarray) else window), heard

    def _sounding(self, split: str) -> list[int]:
        return [i for i, clip in enumerate(self.clips) if clip.split == split and self.track(i) is not None]

    def _track(self, clip: int) -> MelTrack | None:
        if self.clips[clip].is_picture or not self.clips[clip].has_sound:
            return None
        by_time = self.model.preprocessing.sound == "timestamps"
        sound = self.clips[clip].sound() if by_time else self.clips[clip].sound(None)
        return None if sound is None else MelTrack(self.model, sound)

    # --- what the finish weighs -----------------------------------------------------------------------------------

    def priors(
        self, view: View, views: list[View]
    ) -> tuple[Float[np.ndarray, "h2 w2"], Float[np.ndarray, "h3 w3"] | None]:
        """What moves alone in the window, and what moved with the sound up to its end (of all ``views`` at once)."""
        indices = tuple(v.index for v in views if v.clip == view.clip)
        found = self.synchrony(view.clip, indices)
        moving = moving_alone(np.stack([self._brightness(frame) for frame in self.frames(view)]))
        return moving, None if found is None else found[view.index]

    def _brightness(self, frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h2 w2"]:
        values = self.model.preprocessing
        return brightness(frame, values.mean, values.std)

    def loudness(self, number: int, index: int) -> float:
        """How loud it is around a frame of a clip with sound."""
        track = self.track(number)
        assert track is not None
        return track.loudness(self.clips[number].seconds(index))

    def _synchrony(self, number: int, indices: tuple[int, ...]) -> dict[int, Float[np.ndarray, "h w"]] | None:
        track, clip = self.track(number) if self.model.audio_encoder is not None else None, self.clips[number]
        if track is None:
            return None
        count, ahead = self.num_frames(number), self.model.num_frames - 1 - self.model.num_frames // 2
        stream, found = Synchrony(clip.frame_rate, ahead + 1), {}
        for i in range(count):
            stream.add(self._brightness(self._resized(number, [i])[0]), self.loudness(number, i))
            for index in (i - ahead, *(range(i - ahead + 1, count) if i == count - 1 else ())):
                if index in indices:
                    found[index] = stream.at(min(index + ahead, count - 1))
        return found


def _seen(places: np.ndarray, weights: np.ndarray, view: View) -> People:
    """Places on the picture as fractions of what the view has of it; those outside are left out."""
    left, top, size = view.crop
    places = (places - (left, top)) / size
    if view.mirrored:
        places[:, 0] = 1 - places[:, 0]
    kept = ((places >= 0) & (places <= 1)).all(1)
    return places[kept], weights[kept]


def _varied(image: np.ndarray, view: View) -> np.ndarray:
    """A picture or a map as the view has it: cropped to its own size, lit (pictures), mirrored."""
    left, top, size = view.crop
    if size < 1:
        height, width = image.shape[:2]
        y, x = round(top * height), round(left * width)
        cut = image[y : y + round(size * height), x : x + round(size * width)]
        image = cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR)
    if view.light != (1.0, 0.0) and image.dtype == np.uint8:
        image = cv2.convertScaleAbs(image, alpha=view.light[0], beta=view.light[1])
    return np.ascontiguousarray(image[:, ::-1] if view.mirrored else image)
