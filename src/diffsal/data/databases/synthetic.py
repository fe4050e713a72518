"""Small synthetic copies of the data sets, in the layouts in which they are published, oddities included.

    from diffsal.data.databases import DATASETS
    from diffsal.data.databases import synthetic
    root = synthetic.write("dhf1k", tmp_path)                       # a copy, well under a second
    clips = DATASETS["dhf1k"](root, "train")

``write`` takes any name of ``DATASETS``. ``variant`` is one of ``VARIANTS[layout]``, by default the first: DHF1K's
three layouts, STAViS's sets as frames or as video files. A red ball moves over a grey ramp, six observers follow it
(one of them looks elsewhere), and the maps are their fixations blurred: a network can learn from it. Pictures are of
64x48 pixels.

On purpose: DHF1K's test video has no ground truth; Hollywood-2's shots start at any number and last 20, 5 or 1 frames;
UCF Sports' sizes differ and its files are called otherwise than their folders; STAViS's frame rates are not whole
numbers, its wav files have several rates and one or two channels; the gaze layout holds clips and pictures, a plain
table and a compressed one.
"""

from __future__ import annotations

import csv
import gzip
import io
import wave
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from diffsal.data.databases.stavis import SETS, list_path
from diffsal.data.truth import blur_to_bytes

HEIGHT, WIDTH = 48, 64
NUM_FRAMES = 18
NUM_OBSERVERS = 6
SIGMA_PIXELS = 3.0
VARIANTS = {"dhf1k": ("video", "images", "frames"), "stavis": ("frames", "videos")}


@dataclass(frozen=True, eq=False)
class Scene:
    """``frames`` uint8 BGR (n, h, w, 3); ``points`` int (n, observers, 2): column and row; ``maps`` uint8 (n, h, w)."""

    frames: np.ndarray
    points: np.ndarray
    maps: np.ndarray

    def fixated(self, index: int) -> np.ndarray:
        """uint8 (h, w), 1 where somebody looks."""
        grid = np.zeros(self.maps.shape[1:], np.uint8)
        grid[self.points[index, :, 1], self.points[index, :, 0]] = 1
        return grid


def scene(name: str, seed: int = 0, num_frames: int = NUM_FRAMES, height: int = HEIGHT, width: int = WIDTH) -> Scene:
    """A ball that moves, and those who look at it; the same for the same ``name`` and ``seed``."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    size = np.array([width, height])
    start, end = rng.uniform(0.2, 0.8, (2, 2)) * size
    centres = start + (end - start) * np.linspace(0, 1, num_frames)[:, None]
    offsets = rng.normal(0, 0.04, (NUM_OBSERVERS, 2)) * width
    offsets[-1] = rng.uniform(0.1, 0.9, 2) * size - centres.mean(0)
    wander = rng.normal(0, 0.3, (num_frames, NUM_OBSERVERS, 2))
    points = np.clip(centres[:, None] + offsets + wander, 0, size - 1).astype(int)
    ramp = np.linspace(40, 120, width).astype(np.uint8)[None, :, None].repeat(height, 0).repeat(3, 2)
    frames, maps = np.empty((num_frames, height, width, 3), np.uint8), np.zeros((num_frames, height, width), np.uint8)
    for i, (x, y) in enumerate(centres):
        frames[i] = cv2.circle(ramp.copy(), (round(x), round(y)), width // 10, (20, 30, 230), -1)
        grid = np.zeros((height, width), np.float32)
        np.add.at(grid, (points[i, :, 1], points[i, :, 0]), 1)
        maps[i] = blur_to_bytes(grid, SIGMA_PIXELS)
    return Scene(frames, points, maps)


def write(
    dataset: str, root: Path, variant: str | None = None, seed: int = 0, num_frames: int = NUM_FRAMES
) -> Path:
    """Write a copy of ``dataset`` (a name of ``DATASETS``) into ``root``; returns ``root``.

    ``num_frames`` have all clips but Hollywood-2's.
    """
    layout = "stavis" if dataset in SETS else dataset
    choices = VARIANTS.get(layout, ("only",))
    variant = variant or choices[0]
    if variant not in choices:
        raise ValueError(f"variant is {variant!r}, expected one of {', '.join(choices)}")
    writers = {"dhf1k": _dhf1k, "hollywood2": _hollywood2, "ucf_sports": _ucf_sports, "gaze": _gaze}
    if layout == "stavis":
        _stavis(dataset, root, variant, seed, num_frames)
    else:
        writers[dataset](root, variant, seed, num_frames)
    return root


def _dhf1k(root: Path, variant: str, seed: int, num_frames: int) -> None:
    for number in (1, 2, 601, 602, 701):
        made, four = scene(f"dhf1k {number}", seed, num_frames), f"{number:04d}"
        own = root / "annotation" / four
        if variant == "video":
            movie(root / f"video/{number:03d}.AVI", made.frames, 30.0)
        images = own / "images" if variant == "images" else root / "frames" / str(number)
        by_kind = variant == "frames"
        maps, fixation, matrices = (
            (root / "maps" / str(number), root / "fixation" / str(number), root / "fixation/maps" / str(number))
            if by_kind else (own / "maps", own / "fixation", own / "fixation/maps"))
        for i in range(num_frames):
            if variant != "video":
                picture(images / f"{i + 1}.png" if by_kind else images / f"{i + 1:04d}.png", made.frames[i])
            if number > 700:
                continue
            picture(maps / f"{i + 1:04d}.png", made.maps[i])
            if variant != "frames":
                picture(fixation / f"{i + 1:04d}.png", made.fixated(i) * 255)
            if variant != "images":
                matrix(matrices / f"{i + 1:04d}.mat", "I", made.fixated(i))


def _hollywood2(root: Path, variant: str, seed: int, num_frames: int) -> None:
    shots = {"training": (("actioncliptrain00001_1", 1, 20), ("actioncliptrain00001_2", 21, 5),
                          ("actioncliptrain00004_1", 7, 18)),
             "testing": (("actioncliptest00001_1", 23, 20), ("actioncliptest00001_2", 43, 5),
                         ("actioncliptest00003_1", 5, 1))}
    for base, clips in shots.items():
        for name, first, count in clips:
            _shot(root / base / name, name.rpartition("_")[0] + "_{:05d}.png", scene(name, seed, count), first)


def _ucf_sports(root: Path, variant: str, seed: int, num_frames: int) -> None:
    for base, name, size in (("training", "Diving-Side-001", (48, 64)), ("training", "Kicking-Front-002", (36, 64)),
                             ("testing", "Golf-Swing-Back-003", (48, 56)), ("testing", "Walk-Front-019", (54, 72))):
        made = scene(name, seed, num_frames, *size)
        action, _, number = name.rpartition("-")
        _shot(root / base / name, f"{action}_{number}_" + "{:03d}.png", made, 1)


def _shot(folder: Path, file_name: str, made: Scene, first: int) -> None:
    for i in range(len(made.frames)):
        name = file_name.format(first + i)
        picture(folder / "images" / name, made.frames[i])
        picture(folder / "maps" / name, made.maps[i])
        picture(folder / "fixation" / name, made.fixated(i) * 255)


def _stavis(dataset: str, root: Path, variant: str, seed: int, num_frames: int) -> None:
    """Three videos, each tested in one fold; in DIEM, whose list has no number, the last."""
    folder = SETS[dataset].folder
    folds = (1, 2, 3) if len(SETS[dataset].num_test) == 3 else (None,)
    videos = []
    for number, (rate, sound_rate, channels) in enumerate(((14.99985, 44_100, 2), (25.0, 16_000, 1),
                                                            (29.97003, 48_000, 2)), 1):
        name = f"clip_{number}"
        made = scene(f"{dataset} {name}", seed, num_frames)
        videos.append((name, len(made.frames), rate))
        if variant == "videos":
            movie(root / "videos" / folder / f"{name}.avi", made.frames, rate)
        sound(root / "video_audio" / folder / name / f"{name}.wav", made, rate, sound_rate, channels)
        truth = root / "annotations" / folder / name
        for i in range(len(made.frames)):
            if variant == "frames":
                picture(root / "video_frames" / folder / name / f"img_{i + 1:05d}.jpg", made.frames[i])
            picture(truth / "maps" / f"eyeMap_{i + 1:05d}.jpg", made.maps[i])
            matrix(truth / f"fixMap_{i + 1:05d}.mat", "eyeMap", made.fixated(i))
    for fold in folds:
        test = videos[(fold or 3) - 1]
        for kind, rows in (("test", [test]), ("train", [v for v in videos if v is not test])):
            path = list_path(root, dataset, kind, fold)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{name} {count} {rate}\n" for name, count, rate in rows))


def _gaze(root: Path, variant: str, seed: int, num_frames: int) -> None:
    for name, rate in (("ball", 25.0), ("kite", 29.97)):
        made = scene(f"gaze {name}", seed, num_frames)
        movie(root / "videos/play" / f"{name}.mp4", made.frames, rate)
        rows: list[tuple] = [
            (o + 1, f"{i / rate:.4f}", f"{1 / rate:.4f}", f"{(x + 0.5) / WIDTH:.5f}", f"{(y + 0.5) / HEIGHT:.5f}")
            for o in range(NUM_OBSERVERS) for i, (x, y) in enumerate(made.points[:, o])]
        table(root / "gaze/play" / f"{name}.csv", ("observer", "start_s", "duration_s", "x", "y"), rows)
    for set_name, ending in (("stills", ".csv.gz"), ("sketches", ".csv")):
        rows = []
        for number in (1, 2):
            made = scene(f"{set_name} {number}", seed, 1)
            picture(root / "images" / set_name / f"{number:03d}.jpg", made.frames[0])
            for o, (x, y) in enumerate(made.points[0]):
                places = ((0.5, 0.5), ((x + 0.5) / WIDTH, (y + 0.5) / HEIGHT), ((x + 0.9) / WIDTH, (y + 0.1) / HEIGHT))
                rows += [(f"{number:03d}", o + 1, i, f"{u:.5f}", f"{v:.5f}", 0.25) for i, (u, v) in enumerate(places)]
        table(root / "gaze" / f"{set_name}{ending}", ("image", "observer", "index", "x", "y", "duration_s"), rows)


def picture(path: Path, image: np.ndarray) -> None:
    """A picture, grey or BGR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def movie(path: Path, frames: np.ndarray, rate: float) -> None:
    """A silent video file; motion JPEG in .avi, MPEG-4 in .mp4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix.lower() == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), codec, rate, frames.shape[2:0:-1])
    for frame in frames:
        writer.write(frame)
    writer.release()


def matrix(path: Path, variable: str, values: np.ndarray) -> None:
    """A MATLAB file with one variable."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {variable: values}, do_compression=True)


def sound(path: Path, made: Scene, frame_rate: float, rate: int, channels: int) -> None:
    """A wav as long as the pictures, of a tone that rises as people look further to the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(int(np.ceil(len(made.frames) / frame_rate * rate))) / rate
    at = np.interp(t * frame_rate, np.arange(len(made.frames)), made.points[..., 0].mean(1) / made.maps.shape[2])
    tone = 0.4 * np.sin(2 * np.pi * np.cumsum(300 + 1500 * at) / rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone * 32_767).astype("<i2").repeat(channels).tobytes())


def table(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    """A CSV, compressed where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
