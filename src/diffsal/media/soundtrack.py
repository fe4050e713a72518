"""The sound of a file or URL: decoded to mono on the clock of its frames."""

from __future__ import annotations

import tempfile

import av
import numpy as np

from diffsal.media.container import Decoding, open_media, picture_stream, sound_stream, start_seconds
from diffsal.media.mel import SAMPLE_RATE, Sound

GAP_SECONDS = 0.05  # a hole in the sound longer than this is filled with silence
LONGEST_GAP_SECONDS = 86_400.0  # a longer one is a broken time stamp
SAMPLE_BYTES = 2


def read_sound(
    path: str, rate: int | None = SAMPLE_RATE, origin_seconds: float | None = None, problems: list[str] | None = None
) -> Sound | None:
    """The sound of a file with or without a picture, mono int16 at ``rate`` (None: the file's own); None without any.

    ``origin_seconds`` is where the container's own clock stands at time 0, by default where the earliest of picture
    and sound starts. Samples stand where their time stamps say; holes are silent. They lie in an unnamed temporary
    file, so that a long sound does not fill the memory. What cannot be decoded is told in ``problems``.
    Raises :class:`InputError` for a file that cannot be opened.
    """
    name, problems = str(path), [] if problems is None else problems
    with open_media(name, name) as container:
        stream = sound_stream(container)
        if stream is None:
            return None
        if origin_seconds is None:
            origin_seconds = start_seconds(picture_stream(container), stream)
        track, decoding = _Track(rate or stream.rate, origin_seconds), Decoding(container, stream, origin_seconds)
        try:
            for decoded in decoding.frames():
                track.add(decoded)
            track.finish()
        except (av.FFmpegError, ValueError) as error:
            problems.append(f"{name}: its sound cannot be mixed to one channel ({error}); done as if it ended there")
    if decoding.damage():
        problems.append(f"{name}: its sound is {decoding.damage()}; silence stands there, re-encode it for the rest")
    return track.sound()


class _Track:
    """Samples on their way to a file, each where its time stamp wants it."""

    def __init__(self, rate: int, origin_seconds: float) -> None:
        self.rate, self.origin_seconds = rate, origin_seconds
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as its map)
        self.start_seconds: float | None = None
        self.written = 0
        self.resampler: av.AudioResampler | None = None
        self.kind: tuple | None = None

    def add(self, decoded: av.AudioFrame) -> None:
        kind = (decoded.format.name, decoded.layout.name, decoded.sample_rate)
        if kind != self.kind:  # at the start, and where a broadcast changes from stereo to 5.1
            self.finish()
            self.kind, self.resampler = kind, av.AudioResampler("s16", "mono", self.rate)
        if decoded.time is not None:
            seconds = decoded.time - self.origin_seconds
            self.start_seconds = seconds if self.start_seconds is None else self.start_seconds
            gap = seconds - self.start_seconds - self.written / self.rate
            if GAP_SECONDS < gap < LONGEST_GAP_SECONDS:
                self.finish()
                self.resampler = av.AudioResampler("s16", "mono", self.rate)
                gap = seconds - self.start_seconds - self.written / self.rate
                self.written += round(gap * self.rate)
                self.file.seek(self.written * SAMPLE_BYTES)  # a hole in the file takes no room
        self._write(self.resampler.resample(decoded))

    def finish(self) -> None:
        if self.resampler is not None:
            self._write(self.resampler.resample(None))

    def _write(self, chunks: list[av.AudioFrame]) -> None:
        for chunk in chunks:
            self.file.write(chunk.to_ndarray().tobytes())
            self.written += chunk.samples

    def sound(self) -> Sound | None:
        if not self.written:
            return None
        self.file.flush()
        samples = np.memmap(self.file, np.int16, "r", shape=(self.written,))
        return Sound(samples, self.rate, float(self.start_seconds or 0.0))


def sound_end(path: str, origin_seconds: float) -> float:
    """When the last packet of the sound ends, in seconds; 0 without sound."""
    end = 0.0
    with open_media(path, path) as container:
        stream = sound_stream(container)
        if stream is None:
            return end
        for packet in Decoding(container, stream, origin_seconds).packets():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * stream.time_base) - origin_seconds)
    return end
