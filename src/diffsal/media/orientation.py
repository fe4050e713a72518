"""Decoded frames as upright RGB: display matrices in all eight orientations, colour matrices, transparency."""

from __future__ import annotations

import math
import struct
import sys
import threading
from contextlib import suppress

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter

from diffsal.media.pictures import over_ground

UNSPECIFIED_COLORSPACE = 2  # AVCOL_SPC_UNSPECIFIED
ONE = 1 << 16  # in a matrix
SWAPPED = ("rgb555be", "rgb565be", "bgr555be", "bgr565be")  # of old QuickTime; swscale 9 takes their bytes for "le"
HD_LINES = 720  # from here on, players take unspecified colours for BT.709

Matrix = tuple[int, ...]  # a, b, u, c, d, v, x, y, w
_of_thread = threading.local()  # its reformatter: one for each frame takes three times as long


def turned(image: np.ndarray, matrix: Matrix | None) -> np.ndarray:
    """``image`` (height, width, …) as the matrix of a track or a frame shows it: one of eight orientations.

    A container's matrix (a, b, u, c, d, v, x, y, w) sends the pixel (x, y) to (a x + c y, b x + d y).
    """
    if matrix is None:
        return image
    a, b, _, c, d, *_ = matrix
    if is_across(matrix):
        image, across, down = image.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def is_across(matrix: Matrix | None) -> bool:
    """Whether width and height change places."""
    return matrix is not None and abs(matrix[1]) + abs(matrix[3]) > abs(matrix[0]) + abs(matrix[4])


def display_matrix(frame: av.VideoFrame) -> Matrix | None:
    """Its display matrix; None where it has none, or one that shows it as it is."""
    matrix = _stored_matrix(frame)
    if matrix is None:
        return None
    a, b, _, c, d, *_ = matrix
    return None if (a > 0 and d > 0 and abs(b) + abs(c) <= a + d) or not any((a, b, c, d)) else matrix


def _stored_matrix(frame: av.VideoFrame) -> Matrix | None:
    # frame.side_data would keep the frame in a circle of references, and dozens of frames in memory
    side_data = SideDataContainer.__new__(SideDataContainer)
    is_known = True
    try:
        side_data.__init__(frame)  # type: ignore[misc]
    except ValueError:
        is_known = False  # PyAV has no name for EXIF, for a view of two, …; what stands before it is there
    for item in side_data:
        with suppress(ValueError):
            if item.type.name == "DISPLAYMATRIX" and len(bytes(item)) >= 36:
                return struct.unpack("<9i" if sys.byteorder == "little" else ">9i", bytes(item)[:36])
    if is_known or not frame.rotation:
        return None
    angle = math.radians(frame.rotation)
    across, down = round(math.cos(angle) * ONE), round(math.sin(angle) * ONE)
    return (across, -down, 0, down, across, 0, 0, 0, 1 << 30)


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(height, width) of the upright picture."""
    return (frame.width, frame.height) if is_across(display_matrix(frame)) else (frame.height, frame.width)


def upright(frame: av.VideoFrame) -> np.ndarray:
    """RGB, turned as the frame's matrix says, over white where it is transparent."""
    unspecified_hd = frame.colorspace == UNSPECIFIED_COLORSPACE and frame.height >= HD_LINES
    colorspace = "ITU709" if unspecified_hd else None
    if frame.format.has_palette or any(c.is_alpha for c in frame.format.components):
        image = over_ground(_converted(frame, "rgba", colorspace).to_ndarray())
    else:
        image = _pixels(_converted(frame, "rgb24", colorspace))
    return turned(image, display_matrix(frame))


def _converted(frame: av.VideoFrame, pixel_format: str, colorspace: str | None) -> av.VideoFrame:
    if not hasattr(_of_thread, "reformatter"):
        _of_thread.reformatter = VideoReformatter()
    if frame.format.name in SWAPPED:
        frame = _of_thread.reformatter.reformat(frame, format=frame.format.name.replace("be", "le"))
    try:
        return _of_thread.reformatter.reformat(frame, format=pixel_format, src_colorspace=colorspace)
    except av.FFmpegError:  # colours that nobody knows, of a damaged header: as if it said nothing of them
        for name in ("colorspace", "color_primaries", "color_trc"):
            with suppress(AttributeError):  # older versions of PyAV know only the first
                setattr(frame, name, UNSPECIFIED_COLORSPACE)
        return _of_thread.reformatter.reformat(frame, format=pixel_format, src_colorspace=colorspace)


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """A frame of rgb24 as (height, width, 3): its own memory where rows follow each other without a gap."""
    plane, height, width = frame.planes[0], frame.height, frame.width
    if plane.line_size != 3 * width:
        return frame.to_ndarray()
    return np.frombuffer(memoryview(plane), np.uint8, height * width * 3).reshape(height, width, 3)
