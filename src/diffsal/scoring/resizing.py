"""Resizing as the benchmarks' own programs do it: MATLAB's imresize, scikit-image's resize, OpenCV's bilinear."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

MATLAB_A = -0.5  # of Keys' cubic kernel


def resize_bicubic(image: Shaped[np.ndarray, "h w"], height: int, width: int) -> Float[np.ndarray, "{height} {width}"]:
    """MATLAB's ``imresize(image, [height width])``: bicubic, antialiased where it reduces, edges mirrored; float64.

    Values can overshoot the image's own by a little, as MATLAB's do. The same size is returned as it is.
    """
    image = np.asarray(image, np.float64)
    if image.shape == (height, width):
        return image
    return _weights(image.shape[0], height) @ image @ _weights(image.shape[1], width).T


def resize_spline(
    image: Shaped[np.ndarray, "h w"], height: int, width: int, order: int
) -> Float[np.ndarray, "{height} {width}"]:
    """scikit-image's ``resize(image, (height, width), order)`` with its defaults; float64.

    Spline interpolation of ``order`` (1: linear, 3: cubic) on pixel areas, edges mirrored, Gaussian smoothing first
    where it reduces, clipped to the image's own range.
    """
    image = np.asarray(image, np.float64)
    if image.shape == (height, width):
        return image
    factors = np.divide(image.shape, (height, width))
    smooth = image
    if (factors > 1).any():
        smooth = ndimage.gaussian_filter(image, np.maximum(0, (factors - 1) / 2), mode="mirror")
    resized = ndimage.zoom(smooth, 1 / factors, order=order, mode="mirror", grid_mode=True)
    return np.clip(resized, image.min(), image.max())


def resize_linear(image: Shaped[np.ndarray, "h w"], height: int, width: int) -> Float[np.ndarray, "{height} {width}"]:
    """OpenCV's bilinear resizing, without antialiasing, in float32; returned as float64."""
    if image.shape == (height, width):
        return np.asarray(image, np.float64)
    return cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float64)


@lru_cache(maxsize=8)
def _weights(num_in: int, num_out: int) -> Float[np.ndarray, "{num_out} {num_in}"]:
    """How much each of ``num_in`` pixels gives to each of ``num_out``."""
    scale = num_out / num_in
    stretch = min(scale, 1.0)  # a wider kernel where the picture gets smaller
    support = 4 / stretch
    centres = (np.arange(num_out) + 0.5) / scale - 0.5
    taps = np.floor(centres - support / 2 + 1)[:, None] + np.arange(int(np.ceil(support)) + 2)
    weights = _cubic(stretch * (centres[:, None] - taps))
    weights /= weights.sum(1, keepdims=True)
    mirrored = np.concatenate([np.arange(num_in), np.arange(num_in)[::-1]])[taps.astype(int) % (2 * num_in)]
    matrix = np.zeros((num_out, num_in))
    np.add.at(matrix, (np.arange(num_out)[:, None], mirrored), weights)
    return matrix


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel (IEEE TASSP 1981), a = −0.5."""
    x = np.abs(x)
    near = (MATLAB_A + 2) * x**3 - (MATLAB_A + 3) * x**2 + 1
    far = MATLAB_A * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
