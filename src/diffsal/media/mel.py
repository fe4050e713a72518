"""Waveform to log-mel windows on the video's clock.

Two front ends share one short-time Fourier transform (16 kHz, periodic Hann of 25 ms every 10 ms, FFT of 512 samples,
magnitude, 64 triangular bands from 125 to 7,500 Hz): VGGish takes ``log(mel + 0.01)`` in examples of 64 frames,
YAMNet ``log(mel + 0.001)`` in patches of 96 frames. Two policies say which piece of the track belongs to a video
frame: by time stamps (ours), or as the released DiffSal code cuts it (golden/RELEASED.md, "Sound -> mel").
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view

from diffsal.shapes import Float

if TYPE_CHECKING:
    from diffsal.config import ModelConfig

SAMPLE_RATE = 16_000
FRAME_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
FFT_SAMPLES = 512
NUM_BANDS = 64
LOWEST_HERTZ, HIGHEST_HERTZ = 125.0, 7_500.0

VGGISH_OFFSET = 0.01  # added to the mel magnitudes before the logarithm
EXAMPLE_FRAMES = 64  # 0.64 s
EXAMPLE_HOP_FRAMES = 11  # 0.11 s
NUM_EXAMPLES = 9
EXAMPLES_FRAMES = EXAMPLE_FRAMES + (NUM_EXAMPLES - 1) * EXAMPLE_HOP_FRAMES  # 152 frames: 1.52 s
VGGISH_INPUT_SIZE = (112, 192)  # the released network enlarges each 64x64 example to this
RELEASED_BUFFER_SAMPLES = 35_280  # 2.205 s at 16 kHz, 0.8 s at 44.1 kHz
SHORTEST_EXAMPLE_SAMPLES = FRAME_SAMPLES + (EXAMPLE_FRAMES - 1) * HOP_SAMPLES  # 10,480: one example, no less

YAMNET_OFFSET = 0.001
PATCH_FRAMES = 96  # 0.96 s

LOUDNESS_FRAMES = 8  # 95 ms

_BLOCK_FRAMES = 256  # log-mel frames computed at a time: 2.56 s
_CACHED_BLOCKS = 4  # a window spans at most two


@dataclass(frozen=True, eq=False)
class Sound:
    """A mono track on the video's clock.

    ``waveform`` holds n samples, float32 in [-1, 1] or int16 PCM (half the memory: 57.6 MB for 30 minutes at 16 kHz);
    ``rate`` is in samples per second; ``start_seconds`` is the time of the first sample on the video's clock, negative
    when the sound starts earlier than the time 0 of the video.

    Raises ``ValueError`` for a waveform of another shape or type or with NaN or infinite samples, and for a rate that
    is not positive or a start that is not finite.
    """

    waveform: np.ndarray
    rate: int
    start_seconds: float = 0.0

    def __post_init__(self) -> None:
        waveform = self.waveform
        if waveform.ndim != 1:
            raise ValueError(f"a sound's waveform must be mono, of shape (n,), got {waveform.shape}")
        if waveform.dtype not in (np.float32, np.int16):
            raise ValueError(f"a sound's waveform must be float32 in [-1, 1] or int16, got {waveform.dtype}")
        if waveform.dtype == np.float32 and not math.isfinite(float(waveform.sum(dtype=np.float64))):
            raise ValueError("a sound's waveform holds NaN or infinite samples")
        if self.rate <= 0:
            raise ValueError(f"a sound's rate is {self.rate}, expected samples per second above 0")
        if not math.isfinite(self.start_seconds):
            raise ValueError(f"a sound's start_seconds is {self.start_seconds}, expected a finite time")

    @property
    def duration_seconds(self) -> float:
        return len(self.waveform) / self.rate

    def excerpt(self, start: int, stop: int) -> np.ndarray:
        """Samples ``start`` to ``stop`` (exclusive) as float32 (stop - start,), zero outside the track."""
        samples = np.zeros(max(0, stop - start), np.float32)
        first, last = max(start, 0), min(stop, len(self.waveform))
        if first < last:
            samples[first - start : last - start] = self.waveform[first:last]
            if self.waveform.dtype == np.int16:
                samples /= 32_768
        return samples

    def at_rate(self, rate: int) -> Sound:
        """The same sound at ``rate`` samples per second, as float32."""
        if rate == self.rate:
            return self
        waveform = self.excerpt(0, len(self.waveform))
        return Sound(resample(waveform, self.rate, rate), rate, self.start_seconds)


def resample(waveform: Float[ndarray, " n"], rate: int, new_rate: int) -> Float[ndarray, " m"]:
    """``waveform`` float32 from ``rate`` to ``new_rate`` samples per second: m = ⌊n · new_rate / rate⌋ samples."""
    if rate == new_rate or not len(waveform):
        return waveform
    divisor = math.gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    taps, before = _polyphase(up, down)
    padded = np.pad(waveform, (before, taps.shape[1] + down))
    resampled = np.empty(len(waveform) * up // down, np.float32)
    for phase, kernel in enumerate(taps):  # of the outputs phase, phase + up, …, whose inputs lie ``down`` apart
        outputs = resampled[phase::up]
        first = phase * down // up
        windows = sliding_window_view(padded[first:], len(kernel))[::down]
        outputs[:] = windows[: len(outputs)] @ kernel
    return resampled


@lru_cache(maxsize=4)
def _polyphase(up: int, down: int) -> tuple[Float[ndarray, "{up} k"], int]:
    """The low-pass taken apart: output n is Σ_j taps[n mod up, j] · x[⌊n · down / up⌋ − before + j], and ``before``."""
    low_pass = up * sinc_filter(up, down)
    half = len(low_pass) // 2
    before = half // up + 1
    taps = np.zeros((up, 2 * before + 2), np.float32)
    for phase in range(up):
        offsets = phase * down % up + up * (before - np.arange(taps.shape[1])) + half
        inside = (offsets >= 0) & (offsets < len(low_pass))
        taps[phase, inside] = low_pass[offsets[inside]]
    return taps, before


@lru_cache(maxsize=4)
def sinc_filter(up: int, down: int) -> Float[ndarray, " k"]:
    """The low-pass of a change of rate by ``up / down``: a sinc under a Kaiser window, at ``up`` times the old rate.

    Fifty zero crossings, cut off at 0.917 of the lower Nyquist frequency: resampy's kaiser_best (McFee, 2016), which
    fed VGGish. A steeper filter would leave more in the topmost mel bands than the network was trained on.
    """
    zeros, beta, roll_off = 50, 12.9846, 0.917347
    scale = min(1.0, up / down)  # of the lower rate to the old one
    half = math.ceil(zeros * up / scale)
    crossings = np.arange(-half, half + 1) * (scale / up)
    window = np.i0(beta * np.sqrt((1 - (crossings / zeros) ** 2).clip(min=0))) / np.i0(beta)
    return (scale * roll_off * np.sinc(roll_off * crossings) * window / up).astype(np.float32)


@lru_cache(maxsize=1)
def mel_filters() -> Float[ndarray, "257 64"]:
    """Triangles equally spaced on the mel scale 1127 ln(1 + f/700), linear in mel, as in AudioSet's VGGish."""
    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    bins = mel(np.linspace(0.0, SAMPLE_RATE / 2, FFT_SAMPLES // 2 + 1))[:, None]
    edges = np.linspace(mel(LOWEST_HERTZ), mel(HIGHEST_HERTZ), NUM_BANDS + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)).clip(min=0.0)
    return triangles.astype(np.float32)


def log_mel(waveform: Float[ndarray, " n"], offset: float) -> Float[ndarray, "frames 64"]:
    """``log(mel + offset)`` of a 16-kHz waveform: one row per 10 ms, none for a frame that is not whole."""
    if len(waveform) < FRAME_SAMPLES:
        return np.zeros((0, NUM_BANDS), np.float32)
    frames = sliding_window_view(waveform, FRAME_SAMPLES)[::HOP_SAMPLES] * _hann_window()
    magnitudes = np.abs(np.fft.rfft(frames, FFT_SAMPLES)).astype(np.float32)
    # einsum: a product by BLAS differs in its last bit with the number of threads, so with the machine
    return np.log(np.einsum("fb,bm->fm", magnitudes, mel_filters()) + np.float32(offset))


@lru_cache(maxsize=1)
def _hann_window() -> Float[ndarray, "400"]:
    """Periodic: the window's next sample would be its first."""
    return np.hanning(FRAME_SAMPLES + 1)[:-1].astype(np.float32)


def vggish_examples(log_mels: Float[ndarray, "frames 64"]) -> Float[ndarray, "n 64 64"]:
    """Examples (time x band) of 0.64 s every 0.11 s; as many as fit."""
    if len(log_mels) < EXAMPLE_FRAMES:
        return np.zeros((0, EXAMPLE_FRAMES, NUM_BANDS), np.float32)
    return sliding_window_view(log_mels, EXAMPLE_FRAMES, 0)[::EXAMPLE_HOP_FRAMES].swapaxes(1, 2)


def vggish_input(examples: Float[ndarray, "9 64 64"]) -> Float[ndarray, "1 9 112 192"]:
    """Nine examples, each enlarged bilinearly with half-pixel centres, as the released network takes them."""
    size = VGGISH_INPUT_SIZE[::-1]
    return np.stack([cv2.resize(example, size, interpolation=cv2.INTER_LINEAR) for example in examples])[None]


def released_excerpt(sound: Sound, frame_rate: float, first_frame: int, last_frame: int) -> Float[ndarray, " n"]:
    """The released code's excerpt for the 1-based frames ``first_frame`` to ``last_frame``, at 16 kHz.

    It counts frames from the track's first sample, whatever ``start_seconds`` says, and lays the excerpt into the
    middle of 35,280 samples of the file's own rate (golden/RELEASED.md). Where the released code would fail, the
    nearest thing is done: an excerpt longer than the buffer loses both its ends; a rate so high that the buffer is
    shorter than one example (above 53.8 kHz) gets silence around it.
    """
    half_frame = sound.rate / (2 * frame_rate)
    start = int(max(0, (first_frame - 1) * sound.rate / frame_rate - half_frame))
    stop = int(min(len(sound.waveform), (last_frame - 1) * sound.rate / frame_rate + half_frame)) + 1
    num_samples = max(0, min(stop, len(sound.waveform)) - start)
    before = RELEASED_BUFFER_SAMPLES // 2 - num_samples // 2
    buffer = np.zeros(RELEASED_BUFFER_SAMPLES, np.float32)
    cut = max(0, -before)
    length = min(num_samples - cut, RELEASED_BUFFER_SAMPLES)
    buffer[before + cut : before + cut + length] = sound.excerpt(start + cut, start + cut + length)
    buffer = resample(buffer, sound.rate, SAMPLE_RATE)
    missing = max(0, SHORTEST_EXAMPLE_SAMPLES - len(buffer))
    return np.pad(buffer, (missing // 2, missing - missing // 2))


def released_examples(excerpt: Float[ndarray, " n"]) -> Float[ndarray, "9 64 64"]:
    """The first nine examples; if there are fewer, each repeated in place and the first ones appended."""
    examples = vggish_examples(log_mel(excerpt, VGGISH_OFFSET))[:NUM_EXAMPLES]
    repeats, remainder = divmod(NUM_EXAMPLES, len(examples))
    return np.concatenate([examples.repeat(repeats, axis=0), examples[:remainder]])


def window_shape(audio_encoder: str) -> tuple[int, int, int, int]:
    """The shape of a window as :class:`MelTrack` gives it to this audio encoder."""
    return (1, NUM_EXAMPLES, *VGGISH_INPUT_SIZE) if audio_encoder == "vggish" else (1, 1, PATCH_FRAMES, NUM_BANDS)


class MelTrack:
    """A track's log-mel windows: the audio encoder's input for any frame of the video, computed as it is asked for.

    By time stamps (``config.preprocessing.sound``), windows are cut from one spectrogram of the whole track, frame k
    of which starts k * 10 ms after the sound does; the track counts as silent before its start and after its end.
    A few seconds of that spectrogram are kept, so memory does not grow with the track's length.

    ``sound`` None (a video without sound), or a network without an audio encoder, gives ``None`` for every window.
    """

    def __init__(self, config: ModelConfig, sound: Sound | None) -> None:
        self._encoder = config.audio_encoder
        self._policy = config.preprocessing.sound
        self._num_frames = config.num_frames
        if self._encoder == "yamnet" and self._policy == "released":
            raise ValueError("the released way of cutting sound is VGGish's; YAMNet needs sound='timestamps'")
        self._offset = YAMNET_OFFSET if self._encoder == "yamnet" else VGGISH_OFFSET
        self._blocks: OrderedDict[int, ndarray] = OrderedDict()
        if sound is not None and self._encoder is not None and self._policy == "timestamps":
            sound = sound.at_rate(SAMPLE_RATE)
        self._sound = sound

    def window(self, target_seconds: float, frame_rate: float, target_index: int) -> Float[ndarray, "1 n h w"] | None:
        """The input that belongs to one video frame.

        ``target_seconds`` is that frame's time on the video's clock, ``target_index`` its 0-based index and
        ``frame_rate`` the video's frames per second; only the released policy uses the latter two.

        Returns VGGish's (1, 9, 112, 192), 1.52 s around the frame by time stamps; or YAMNet's (1, 1, 96, 64), 0.96 s
        around the frame.
        """
        if self._sound is None or self._encoder is None:
            return None
        if self._policy == "released":
            first = target_index - self._num_frames // 2 + 1
            excerpt = released_excerpt(self._sound, frame_rate, first, first + self._num_frames - 1)
            return vggish_input(released_examples(excerpt))
        if self._encoder == "vggish":
            return vggish_input(vggish_examples(self.centred(target_seconds, EXAMPLES_FRAMES)))
        return self.centred(target_seconds, PATCH_FRAMES)[None, None]

    def loudness(self, seconds: float) -> float:
        """The mean log-mel magnitude around a time on the video's clock (by time stamps)."""
        return float(self.centred(seconds, LOUDNESS_FRAMES).mean())

    def centred(self, seconds: float, num_frames: int) -> Float[ndarray, "{num_frames} 64"]:
        """The ``num_frames`` spectrogram frames whose middle is nearest to ``seconds`` on the video's clock."""
        sound = self._heard()
        extent_samples = (num_frames - 1) * HOP_SAMPLES + FRAME_SAMPLES
        first_sample = (seconds - sound.start_seconds) * SAMPLE_RATE - extent_samples / 2
        first = math.floor(first_sample / HOP_SAMPLES + 0.5)
        blocks = range(first // _BLOCK_FRAMES, (first + num_frames - 1) // _BLOCK_FRAMES + 1)
        start = first - blocks[0] * _BLOCK_FRAMES
        return np.concatenate([self._block(index) for index in blocks])[start : start + num_frames]

    def _heard(self) -> Sound:
        if self._sound is None:
            raise ValueError("a video without sound has no spectrogram")
        return self._sound

    def _block(self, index: int) -> Float[ndarray, "256 64"]:
        """Spectrogram frames ``index * 256`` to ``index * 256 + 255``."""
        if index in self._blocks:
            self._blocks.move_to_end(index)
            return self._blocks[index]
        start = index * _BLOCK_FRAMES * HOP_SAMPLES
        stop = start + (_BLOCK_FRAMES - 1) * HOP_SAMPLES + FRAME_SAMPLES
        block = log_mel(self._heard().excerpt(start, stop), self._offset)
        self._blocks[index] = block
        if len(self._blocks) > _CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return block
