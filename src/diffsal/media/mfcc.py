"""Mel-frequency cepstral coefficients of any piece of a sound: 13 every 10 ms, as python_speech_features computes them.

Pre-emphasis 0.97, windows of 25 ms without a taper, a Fourier transform of 512, 26 triangular mel filters from 0 to
8 kHz, natural logarithm, orthonormal DCT-II, lifter 22, the first coefficient replaced by the logarithm of the energy.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view

from diffsal.media.mel import FFT_SAMPLES, FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, Sound
from diffsal.shapes import Float

ROWS_PER_SECOND = SAMPLE_RATE // HOP_SAMPLES  # 100
NUM_COEFFICIENTS = 13
NUM_FILTERS = 26
PRE_EMPHASIS = 0.97
LIFTER = 22
FULL_SCALE = 32_768  # of 16-bit samples, whose units the coefficients are in
LEAST = np.finfo(np.float64).eps  # in place of energies that are 0


def mfcc(samples: Float[ndarray, " n"], before: float | None = None) -> Float[ndarray, "rows 13"]:
    """Coefficients (float64) of 16-kHz samples in 16-bit units, one row for every 10 ms.

    ``before``: the sample before the first; None where the sound starts. The last window is filled up with zeros.
    """
    samples = np.asarray(samples, np.float64)
    if not len(samples):
        return np.zeros((0, NUM_COEFFICIENTS))
    earlier = np.concatenate([[0.0 if before is None else before], samples[:-1]])
    emphasised = samples - PRE_EMPHASIS * earlier
    rows = 1 + max(0, -(-(len(samples) - FRAME_SAMPLES) // HOP_SAMPLES))
    padded = np.pad(emphasised, (0, (rows - 1) * HOP_SAMPLES + FRAME_SAMPLES - len(samples)))
    windows = sliding_window_view(padded, FRAME_SAMPLES)[::HOP_SAMPLES]
    power = np.abs(np.fft.rfft(windows, FFT_SAMPLES)) ** 2 / FFT_SAMPLES
    coefficients = np.log(np.maximum(power @ _filters(), LEAST)) @ _transform()
    coefficients[:, 0] = np.log(np.maximum(power.sum(axis=1), LEAST))
    return coefficients


def mfcc_rows(sound: Sound, start_seconds: float, num_rows: int) -> Float[ndarray, "{num_rows} 13"]:
    """The rows of a 16-kHz sound from ``start_seconds`` on the video's clock on; outside the sound it is silent."""
    first = round((start_seconds - sound.start_seconds) * SAMPLE_RATE)
    piece = sound.excerpt(first - 1, first + (num_rows - 1) * HOP_SAMPLES + FRAME_SAMPLES) * FULL_SCALE
    return mfcc(piece[1:], float(piece[0]))


@lru_cache(maxsize=1)
def _filters() -> Float[ndarray, "257 26"]:
    top = 2595.0 * np.log10(1 + SAMPLE_RATE / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, top, NUM_FILTERS + 2) / 2595.0) - 1)
    edges = np.floor((FFT_SAMPLES + 1) * hertz / SAMPLE_RATE)
    bins = np.arange(FFT_SAMPLES // 2 + 1)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    return np.where(bins < centre, (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)).clip(min=0.0)


@lru_cache(maxsize=1)
def _transform() -> Float[ndarray, "26 13"]:
    """The DCT-II's first columns, each times its lifter."""
    k, n = np.arange(NUM_COEFFICIENTS), np.arange(NUM_FILTERS)[:, None]
    cosines = np.sqrt(2 / NUM_FILTERS) * np.cos(np.pi * k * (2 * n + 1) / (2 * NUM_FILTERS))
    cosines[:, 0] /= np.sqrt(2)
    return cosines * (1 + LIFTER / 2 * np.sin(np.pi * k / LIFTER))
