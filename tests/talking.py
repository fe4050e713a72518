"""A clip in which somebody speaks: two faces beside each other, the left one's mouth moves with a made voice."""

from pathlib import Path

import cv2
import numpy as np
from skimage import data

from tests.movies import write_movie

FRAME_RATE = 25
SAMPLE_RATE = 16_000
SYLLABLES_PER_SECOND = 4
MOUTH = (130, 147)  # x, y in the left half of the picture
HALF_WIDTH, OPENING = 14, 10  # of the mouth, in pixels
INSIDE = (50, 18, 20)  # of the mouth


def write_talking(path: Path, seconds: float) -> Path:
    """256×512 at 25 frames per second; the faces are an astronaut's (NASA, public domain) and its mirror image."""
    face = data.astronaut()[:256, 96:352]
    loud = loudness(np.arange(round(seconds * FRAME_RATE)) / FRAME_RATE)
    images = np.stack([np.hstack([opened(face, how), face[:, ::-1]]) for how in loud])
    return write_movie(
        path, num_frames=len(images), frame_rate=FRAME_RATE, size=images.shape[1:3], images=images,
        sound=voice(np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE), sound_rate=SAMPLE_RATE,
    )  # fmt: skip


def loudness(seconds: np.ndarray) -> np.ndarray:
    """From 0 to 1: each syllable has its own strength."""
    strengths = np.random.default_rng(3).uniform(0.3, 1, 100)
    syllables = seconds * SYLLABLES_PER_SECOND
    return np.sin(np.pi * syllables) ** 2 * strengths[syllables.astype(int)]


def voice(seconds: np.ndarray) -> np.ndarray:
    """float32 (n,): overtones of a pitch that wanders, strongest at three formants, two of them each syllable's own."""
    rng = np.random.default_rng(5)
    syllable = (seconds * SYLLABLES_PER_SECOND).astype(int)
    formants = ((rng.uniform(300, 800, 100)[syllable], 1.0, 60), (rng.uniform(900, 2300, 100)[syllable], 0.6, 90),
                (2600.0, 0.3, 150))  # fmt: skip
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * seconds) + 10 * np.sin(2 * np.pi * 2.1 * seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    sound = np.zeros(len(seconds))
    for k in range(1, 40):
        strength = sum(most / (1 + ((k * pitch - hertz) / width) ** 2) for hertz, most, width in formants)
        sound += strength * np.sin(k * phase)
    return (0.3 * loudness(seconds) * sound / np.abs(sound).max()).astype(np.float32)


def opened(face: np.ndarray, how: float) -> np.ndarray:
    """The face with its mouth open, from 0 to 1: what is below moves down, what is above a little up."""
    y, x = np.mgrid[: face.shape[0], : face.shape[1]].astype(np.float32)
    dx, dy = x - MOUTH[0], y - MOUTH[1]
    moved = how * OPENING * np.exp(-((dx / HALF_WIDTH / 1.6) ** 4)) * np.clip(1 - np.abs(dy) / OPENING / 3.2, 0, 1)
    source = np.where(dy > 0, np.maximum(dy - moved, 0), np.minimum(dy + moved / 4, 0)) + MOUTH[1]
    warped = cv2.remap(face, x, source.astype(np.float32), cv2.INTER_LINEAR)
    tall = max(0.5, 0.55 * how * OPENING)
    gap = 1.15 - (dx / HALF_WIDTH) ** 2 - ((dy - 0.35 * how * OPENING) / tall) ** 2
    share = (np.clip(3 * gap, 0, 1) * min(1.0, 3 * how))[..., None]
    return (warped * (1 - share) + np.array(INSIDE) * share).astype(np.uint8)
