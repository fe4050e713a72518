"""The sound of a file or URL on one timeline, the clock of its frames: for the network, and for the overlay."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from diffsal.media.container import Decoding, open_media, reason_of
from diffsal.media.mel import SAMPLE_RATE, Sound
from diffsal.media.probe import picture_stream, sound_stream, start_seconds

JITTER_SECONDS = 0.005  # stamps that are off by less say nothing; a lost packet is longer
LONGEST_GAP_SECONDS = 86_400.0  # a longer one is a broken time stamp
SAMPLE_BYTES = 2
OPPOSITE = 0.05  # of the channels' energy: where less is left in their mean, one of the two is upside down


class SoundTimeline:
    """The samples of one stream of sound, each where its time stamp wants it, at one rate and in one layout.

    Holes are silent, overlaps are cut, and a change of layout or rate in the middle is brought to what was asked for.
    ``start_seconds`` is the time of the first sample on the clock of the frames, once :meth:`pieces` has given one.
    """

    def __init__(self, decoding: Decoding, sample_format: str, layout: str, rate: int) -> None:
        self.decoding, self.rate, self.layout = decoding, rate, layout
        self.format, self.is_mono = sample_format, layout == "mono"
        self.start_seconds: float | None = None
        self.position = 0  # samples written since the start, holes included
        self.written = 0  # samples that the resampler has given since the last anchor
        self.anchor = self.taken = 0  # where it began, and samples that it has taken since, at ``source_rate``
        self.source_rate = rate
        self.kind: tuple | None = None
        self.resampler: Any = None
        self.problem: str | None = None

    def pieces(self) -> Iterator[tuple[int, np.ndarray | None, int]]:
        """(first sample, samples as PyAV's frames hold them, their number); None for the samples of a hole.

        Positions count from the first sample, without gaps or overlaps.
        """
        try:
            for decoded in self.decoding.frames():
                yield from self._add(decoded)
            yield from self._flush()
        except (av.FFmpegError, ValueError, MemoryError, OverflowError) as error:
            self.problem = reason_of(error)

    def _add(self, decoded: av.AudioFrame) -> Iterator[tuple[int, np.ndarray | None, int]]:
        kind = (decoded.format.name, decoded.layout.name, decoded.sample_rate)
        if not decoded.samples or decoded.sample_rate <= 0:
            return
        if kind != self.kind:  # at the start, and where a broadcast changes from stereo to 5.1
            yield from self._flush()
            self.kind = kind
        seconds = None if decoded.time is None else decoded.time - self.decoding.origin_seconds
        if self.start_seconds is None:
            self.start_seconds = seconds or 0.0
        skip = 0
        if seconds is not None:
            off = seconds - self.start_seconds - self._expected_seconds()
            if JITTER_SECONDS < off < LONGEST_GAP_SECONDS:
                yield from self._flush()
                gap = round((seconds - self.start_seconds) * self.rate) - self.position
                if gap > 0:
                    yield self.position, None, gap
                    self.position += gap
            elif -LONGEST_GAP_SECONDS < off < -JITTER_SECONDS:
                skip = min(decoded.samples, round(-off * decoded.sample_rate))
        if self.resampler is None:
            self.resampler = av.AudioResampler(self.format, self.layout, self.rate)
            self.anchor, self.taken, self.source_rate = self.position, 0, decoded.sample_rate
        mended = _mended(decoded, skip, self.is_mono)
        if mended is not None:
            self.taken += mended.samples
            mended.pts = None
            yield from self._given(self.resampler.resample(mended))

    def _expected_seconds(self) -> float:
        if self.resampler is None:
            return self.position / self.rate
        return self.anchor / self.rate + self.taken / self.source_rate

    def _flush(self) -> Iterator[tuple[int, np.ndarray | None, int]]:
        if self.resampler is not None:
            resampler, self.resampler = self.resampler, None
            yield from self._given(resampler.resample(None))

    def _given(self, chunks: list[av.AudioFrame]) -> Iterator[tuple[int, np.ndarray | None, int]]:
        for chunk in chunks:
            yield self.position, chunk.to_ndarray(), chunk.samples
            self.position += chunk.samples


def _mended(frame: av.AudioFrame, skip: int, is_mono: bool) -> av.AudioFrame | None:
    """The frame without its first ``skip`` samples and, to be mixed to one channel, without opposite phases; or None.
    """
    stereo = is_mono and frame.layout.nb_channels == 2
    if not skip and not stereo:
        return frame
    values = frame.to_ndarray()
    channels, planar = frame.layout.nb_channels, frame.format.is_planar
    by_channel = values if planar else values.reshape(-1, channels).T
    by_channel = by_channel[:, skip:]
    if not by_channel.shape[1]:
        return None
    opposite = stereo and _is_opposite(by_channel)
    if not skip and not opposite:
        return frame
    if opposite:
        by_channel = by_channel.copy()
        if by_channel.dtype.kind == "i":  # their lowest number has no opposite
            by_channel[1] = np.maximum(by_channel[1], -np.iinfo(by_channel.dtype).max)
        by_channel[1] *= -1
    packed = by_channel if planar else by_channel.T.reshape(1, -1)
    mended = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), format=frame.format.name,
                                        layout=frame.layout.name)
    mended.sample_rate, mended.time_base = frame.sample_rate, frame.time_base
    return mended


def _is_opposite(by_channel: np.ndarray) -> bool:
    """Whether two channels cancel out: their mean is near silence, and they are not."""
    if by_channel.dtype.kind not in "if":
        return False
    left, right = by_channel.astype(np.float32)
    energy = float(left @ left + right @ right)
    both = left + right
    return energy > 0 and float(both @ both) < 2 * OPPOSITE * energy


def read_sound(
    path: str, rate: int | None = SAMPLE_RATE, origin_seconds: float | None = None, problems: list[str] | None = None
) -> Sound | None:
    """The sound of a file with or without a picture, mono int16 at ``rate`` (None: the file's own); None without any.

    ``origin_seconds`` is where the container's own clock stands at time 0, by default where the earliest of picture
    and sound starts. Samples stand where their time stamps say; holes are silent. They lie in an unnamed temporary
    file, so that a long sound does not fill the memory. What cannot be decoded is told in ``problems``.
    Two channels that cancel each other out are heard as if one were not upside down.
    Raises :class:`InputError` for a file that cannot be opened.
    """
    name, problems = str(path), [] if problems is None else problems
    with open_media(name, name) as container:
        stream, picture = sound_stream(container), picture_stream(container)
        if stream is None:
            return None
        if origin_seconds is None:
            origin_seconds = start_seconds(picture, stream)
        decoding = Decoding(container, stream, origin_seconds, (picture,))
        timeline = SoundTimeline(decoding, "s16", "mono", rate or stream.rate or SAMPLE_RATE)
        file = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as its map)
        for position, samples, _ in timeline.pieces():
            if samples is not None:
                file.seek(position * SAMPLE_BYTES)  # a hole in the file takes no room
                file.write(samples.tobytes())
    if timeline.problem:
        problems.append(f"{name}: its sound cannot be mixed to one channel ({timeline.problem}); done as if it ended "
                        "there")
    if decoding.damage():
        problems.append(f"{name}: its sound is {decoding.damage()}; silence stands there, re-encode it for the rest")
    if not timeline.position:
        return None
    file.truncate(timeline.position * SAMPLE_BYTES)
    file.flush()
    samples = np.memmap(file, np.int16, "r", shape=(timeline.position,))
    return Sound(samples, timeline.rate, float(timeline.start_seconds or 0.0))


def sound_end(path: str, origin_seconds: float) -> float:
    """When the last packet of the sound ends, in seconds; 0 without sound."""
    end = 0.0
    with open_media(path, path) as container:
        stream = sound_stream(container)
        if stream is None:
            return end
        for packet in Decoding(container, stream, origin_seconds, (picture_stream(container),)).packets():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * stream.time_base) - origin_seconds)
    return end
