"""Every frame of the training clips at the network's size, decoded once into one file that is read by position."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock
from jaxtyping import UInt8

from diffsal.data.clip import Clip
from diffsal.errors import InputError
from diffsal.files import naming, write_whole


class PackedFrames:
    """Frames of ``clips`` as uint8 RGB (frames, height, width, 3), in a folder that later runs use again.

    They are read as everywhere (:mod:`diffsal.media`), so their times are ``Clip.seconds``. Memory is the operating
    system's page cache: the file is mapped, not read. ``on_clip(done, total)`` is called while clips are decoded; a
    stop in between costs the clip at hand. Two runs may share the folder: one decodes, the other waits.
    """

    def __init__(
        self, clips: list[Clip], folder: Path, height: int, width: int,
        on_clip: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        index_path, frames_path = folder / "frames.json", folder / "frames.u8"
        wanted = [_entry(clip, height, width) for clip in clips]
        with FileLock(folder / "frames.lock"):  # another run that shares the folder decodes, or this one
            index = json.loads(index_path.read_text()) if index_path.exists() else None
            if index is None or index["clips"] != wanted:
                counts = _decode_all(clips, wanted, frames_path, on_clip)
                index = {"clips": wanted, "counts": counts}
                write_whole(index_path, json.dumps(index).encode())
            self._frames = np.memmap(frames_path, np.uint8, "r", shape=(sum(index["counts"]), height, width, 3))
        self.num_frames: list[int] = index["counts"]
        self._starts = np.cumsum([0, *self.num_frames])

    def read(self, clip: int, indices: list[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """Frames ``indices`` of the clip at position ``clip`` in the list."""
        return np.asarray(self._frames[self._starts[clip] + np.array(indices)])


def _entry(clip: Clip, height: int, width: int) -> dict[str, Any]:
    """What a clip's packed frames depend on."""
    status = clip.video.stat()
    return {"name": f"{clip.split}/{clip.name}", "height": height, "width": width,
            "bytes": status.st_size, "changed": status.st_mtime_ns}


def _decode_all(
    clips: list[Clip], entries: list[dict[str, Any]], path: Path, on_clip: Callable[[int, int], None]
) -> list[int]:
    """How many frames each clip has; they are in ``path``. What was decoded before a stop is not decoded again."""
    partial, journal = path.with_suffix(".partial"), path.with_name("clips.partial")
    counts = _decoded_before(partial, journal, entries)
    with naming(path), partial.open("ab") as file, journal.open("a") as lines:
        for i in range(len(counts), len(clips)):
            on_clip(i, len(clips))
            counts.append(0)
            for frame in clips[i]:
                size = (entries[i]["width"], entries[i]["height"])
                file.write(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA).tobytes())
                counts[-1] += 1
            if not counts[-1]:
                raise InputError(f"{clips[i].video}: no frame could be decoded; remove the clip or fetch it again")
            file.flush()
            lines.write(json.dumps([entries[i], counts[-1]]) + "\n")
            lines.flush()
    partial.replace(path)
    journal.unlink()
    return counts


def _decoded_before(partial: Path, journal: Path, entries: list[dict[str, Any]]) -> list[int]:
    """Counts of the first of the clips as far as both files hold them whole; both are cut to these."""
    counts: list[int] = []
    for line, entry in zip(journal.read_text().splitlines() if journal.exists() else (), entries, strict=False):
        try:
            known, count = json.loads(line)
        except ValueError:  # killed while it was written
            break
        if known != entry:
            break
        counts.append(count)
    num_bytes = sum(n * e["height"] * e["width"] * 3 for n, e in zip(counts, entries, strict=False))
    if not partial.exists() or partial.stat().st_size < num_bytes:
        counts, num_bytes = [], 0
    lines = (json.dumps([entry, count]) + "\n" for entry, count in zip(entries, counts, strict=False))
    journal.write_text("".join(lines))
    with partial.open("ab") as file:
        file.truncate(num_bytes)
    return counts
