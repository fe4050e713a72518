"""Every frame of the training clips at the network's size, decoded once into one file that is read by position."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from diffsal.data.databases.gaze import GazeClip
from diffsal.errors import InputError
from diffsal.files import write_whole


class FrameStore:
    """Frames of ``clips`` as uint8 RGB (frames, height, width, 3), in a folder that later runs use again.

    ``ranges[name]`` is a clip's slice of the store, ``seconds[name]`` its frames' times, ``aspects[name]`` its
    picture's width over height. Memory is the operating system's page cache: the file is mapped, not read.
    ``on_clip(done, total)`` is called while clips are decoded; a stop in between costs the clip at hand.
    """

    def __init__(
        self, clips: list[GazeClip], folder: Path, height: int, width: int,
        on_clip: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        index_path, frames_path = folder / "frames.json", folder / "frames.u8"
        names = [f"{clip.set_name}/{clip.name}" for clip in clips]
        index = json.loads(index_path.read_text()) if index_path.exists() else None
        if index is None or index["names"] != names or index["size"] != [height, width]:
            index = _decode_all(clips, names, frames_path, height, width, on_clip)
            write_whole(index_path, json.dumps(index).encode())
        ends = np.cumsum(index["counts"])
        self.ranges = {n: range(int(e) - c, int(e)) for n, c, e in zip(names, index["counts"], ends, strict=True)}
        self.seconds = dict(zip(names, map(np.array, index["seconds"]), strict=True))
        self.aspects = dict(zip(names, index["aspects"], strict=True))
        self.frames = np.memmap(frames_path, np.uint8, "r", shape=(int(ends[-1]), height, width, 3))


def _decode_all(
    clips: list[GazeClip], names: list[str], path: Path, height: int, width: int, on_clip: Callable[[int, int], None]
) -> dict:
    """The store's index; the frames are in ``path``. What was decoded before a stop is not decoded again."""
    partial, journal = path.with_suffix(".partial"), path.with_name("clips.partial")
    done = _decoded_before(partial, journal, names, [height, width])
    with partial.open("ab") as file, journal.open("a") as lines:
        for i, (clip, name) in enumerate(zip(clips, names, strict=True)):
            on_clip(i, len(clips))
            if i < len(done):
                continue
            seconds, aspect = [], 1.0
            for when, image in _frames(clip):
                aspect = image.shape[1] / image.shape[0]
                file.write(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).tobytes())
                seconds.append(when)
            if not seconds:
                raise InputError(f"{clip.path}: no frame could be decoded; remove the clip or fetch it again")
            file.flush()
            done.append({"name": name, "size": [height, width], "seconds": seconds, "aspect": aspect})
            lines.write(json.dumps(done[-1]) + "\n")
            lines.flush()
    partial.replace(path)
    journal.unlink()
    return {
        "names": names, "size": [height, width], "counts": [len(clip["seconds"]) for clip in done],
        "seconds": [clip["seconds"] for clip in done], "aspects": [clip["aspect"] for clip in done],
    }


def _decoded_before(partial: Path, journal: Path, names: list[str], size: list[int]) -> list[dict]:
    """The first of the clips as far as both files hold them whole; both are cut to these."""
    done: list[dict] = []
    for line, name in zip(journal.read_text().splitlines() if journal.exists() else (), names, strict=False):
        try:
            clip = json.loads(line)
        except ValueError:  # killed while it was written
            break
        if clip["name"] != name or clip["size"] != size:
            break
        done.append(clip)
    num_bytes = sum(len(clip["seconds"]) for clip in done) * size[0] * size[1] * 3
    if not partial.exists() or partial.stat().st_size < num_bytes:
        done, num_bytes = [], 0
    journal.write_text("".join(json.dumps(clip) + "\n" for clip in done))
    with partial.open("ab") as file:
        file.truncate(num_bytes)
    return done


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
