"""Small odd videos, made with PyAV where a test needs them. A flash and a click say what belongs together."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLOCK = 90_000  # ticks per second of the videos' time stamps


def picture(index: int, height: int, width: int, flash: bool = False, grain: int = 0) -> np.ndarray:
    """uint8 RGB (height, width, 3): a grey ramp, brighter to the right, with a red spot that wanders; or white.

    ``grain`` adds noise of its own to every frame, so that packets are large.
    """
    if flash:
        return np.full((height, width, 3), 255, np.uint8)
    ramp = np.linspace(20, 120, width).astype(np.uint8)
    image = np.repeat(np.repeat(ramp[None, :, None], height, 0), 3, 2)
    image += np.random.default_rng(index).integers(0, grain + 1, image.shape, np.uint8)
    x = (3 * index) % max(1, width - 8)
    image[height // 4 : height // 4 + 8, x : x + 8] = (255, 0, 0)
    return image


def tone(seconds: float, rate: int, click_seconds: float | None = None) -> np.ndarray:
    """float32 (n,): silence, with 20 ms of a 440 Hz tone at ``click_seconds``; without it, the tone throughout."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * 440 * t)
    if click_seconds is not None:
        wave[(t < click_seconds) | (t >= click_seconds + 0.02)] = 0
    return wave.astype(np.float32)


def write_movie(
    path: Path,
    seconds: list[float] | np.ndarray | None = None,
    num_frames: int = 20,
    frame_rate: float | Fraction = 25,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    flash: int | None = None,
    grain: int = 0,
    aspect: Fraction | None = None,
    sound: np.ndarray | None = None,
    sound_rate: int = 16_000,
    sound_start: float = 0.0,
    layout: str = "mono",
    sound_codec: str = "aac",
    format: str | None = None,
    images: np.ndarray | None = None,
) -> Path:
    """A video of ``num_frames`` at ``frame_rate``, or at the times ``seconds``; ``size`` is (height, width).

    ``images`` (num_frames, height, width, 3) are what it shows instead of :func:`picture`.

    ``sound`` (n,) goes into every channel of ``layout`` from ``sound_start`` seconds on; ``flash`` is the white frame.
    """
    times = np.arange(num_frames) / float(frame_rate) if seconds is None else np.asarray(seconds)
    by_rate = path.suffix in (".avi", ".mpg")  # they know no times, only a rate
    tick = 1 / Fraction(frame_rate) if by_rate else Fraction(1, CLOCK)
    with av.open(str(path), "w", format=format) as container:
        video = container.add_stream(codec, rate=Fraction(frame_rate).limit_denominator(1001), options=options or {})
        video.height, video.width, video.pix_fmt = *size, pixels
        video.codec_context.time_base = tick
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        audio = container.add_stream(sound_codec, rate=sound_rate, layout=layout) if sound is not None else None
        for index, when in enumerate(times):
            image = picture(index, *size, index == flash, grain) if images is None else images[index]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(when / tick), tick
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _write_sound(container, audio, sound, sound_rate, sound_start, layout)
    return path


def _write_sound(container, stream, sound, rate, start, layout) -> None:
    channels = av.AudioLayout(layout).nb_channels
    resampler = av.AudioResampler(stream.format, layout, rate, frame_size=stream.frame_size or 1024)
    packed = np.repeat((sound * 32_767).astype(np.int16)[:, None], channels, 1).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    pts = round(start * rate)
    for chunk in [*resampler.resample(frame), *resampler.resample(None)]:
        chunk.pts, chunk.time_base, pts = pts, Fraction(1, rate), pts + chunk.samples
        container.mux(stream.encode(chunk))
    container.mux(stream.encode(None))


def turn(path: Path, degrees_clockwise: int) -> Path:
    """Write a rotation into an MP4's first track header, as a phone does that is held upright."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes
    one = 0x10000
    a, b, c, d = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees_clockwise]
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    return path
