"""Every frame of the training clips at the network's size, decoded once into one file that is read by position."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from diffsal.data.gaze import GazeClip
from diffsal.errors import InputError


class FrameStore:
    """Frames of ``clips`` as uint8 RGB (frames, height, width, 3), in a folder that later runs use again.

    ``ranges[name]`` is a clip's slice of the store, ``seconds[name]`` its frames' times, ``aspects[name]`` its
    picture's width over height. Memory is the operating system's page cache: the file is mapped, not read.
    """

    def __init__(self, clips: list[GazeClip], folder: Path, height: int, width: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        index_path, frames_path = folder / "frames.json", folder / "frames.u8"
        names = [f"{clip.set_name}/{clip.name}" for clip in clips]
        index = json.loads(index_path.read_text()) if index_path.exists() else None
        if index is None or index["names"] != names or index["size"] != [height, width]:
            index = _decode_all(clips, names, frames_path, height, width)
            partial = index_path.with_suffix(".partial")
            partial.write_text(json.dumps(index))
            partial.replace(index_path)
        ends = np.cumsum(index["counts"])
        self.ranges = {n: range(int(e) - c, int(e)) for n, c, e in zip(names, index["counts"], ends, strict=True)}
        self.seconds = dict(zip(names, map(np.array, index["seconds"]), strict=True))
        self.aspects = dict(zip(names, index["aspects"], strict=True))
        self.frames = np.memmap(frames_path, np.uint8, "r", shape=(int(ends[-1]), height, width, 3))


def _decode_all(clips: list[GazeClip], names: list[str], path: Path, height: int, width: int) -> dict:
    index: dict = {"names": names, "size": [height, width], "counts": [], "seconds": [], "aspects": []}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for clip in clips:
            seconds, aspect = [], 1.0
            for when, image in _frames(clip):
                aspect = image.shape[1] / image.shape[0]
                file.write(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).tobytes())
                seconds.append(when)
            if not seconds:
                raise InputError(f"{clip.path}: no frame could be decoded; remove the clip or fetch it again")
            index["counts"].append(len(seconds))
            index["seconds"].append(seconds)
            index["aspects"].append(aspect)
    partial.replace(path)
    return index


def _frames(clip: GazeClip):
    if clip.is_picture:
        image = cv2.imread(str(clip.path))
        if image is not None:
            yield 0.0, image[..., ::-1]
        return
    video = cv2.VideoCapture(str(clip.path))
    rate, number = video.get(cv2.CAP_PROP_FPS), 0
    while True:
        ok, image = video.read()
        if not ok:
            return
        yield number / rate, image[..., ::-1]
        number += 1
