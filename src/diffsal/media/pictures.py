"""Every picture and map, read and written: any depth, orientation and transparency, animations, tiles; within limits.

Pictures are RGB over a white ground: what is wholly transparent is white, whatever colour is hidden under it. A
file's content decides, not the ending of its name.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from diffsal.errors import InputError
from diffsal.files import check_plain, write_whole
from diffsal.media.counts import avif_frames, webp_frames

PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".hif",
    ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jpe", ".mpo",
)
WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
MOST_PIXELS = 178_956_970  # Pillow's own limit; one picture above it takes gigabytes
GROUND = (255, 255, 255)  # under what is transparent
LEAST_FRAME_MS = 11  # of an animation; browsers show shorter ones for a tenth of a second, too
SHORT_FRAME_MS = 100
READABLE = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "HEIF", "TIFF", "GIF", "BMP", "PPM", "JPEG2000")  # none runs programs
ANIMATED = ("WEBP", "AVIF")  # read here; FFmpeg reads those of PNG and GIF
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
COLOUR_PFM = re.compile(rb"PF\s+(\d+)\s+(\d+)\s")
BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANES, SAMPLE_FORMAT = 258, 259, 262, 277, 284, 339  # tags of a TIFF
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # values of its SAMPLE_FORMAT
WHITE_IS_ZERO = 0  # of its PHOTOMETRIC
TIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000)  # of others, decoders give black or noise
HIGHEST_WORD = 65_535


@dataclass(frozen=True)
class PictureHeader:
    """What a picture says about itself: its upright size in pixels, its format, and how many frames it has."""

    width: int
    height: int
    format: str
    num_frames: int = 1

    @property
    def is_animated(self) -> bool:
        """Whether its frames follow each other in time; pages of a TIFF and views of a camera do not."""
        return self.num_frames > 1 and self.format in (*ANIMATED, "PNG", "GIF")


def read_header(path: Path) -> PictureHeader:
    """Size and format of a picture; nothing is decoded. :class:`InputError` if it is none or above the limit."""
    with _opened(path) as image:
        return PictureHeader(*_upright_size(image), str(image.format), max(_frames_of(path, image)))


def read_picture(path: Path) -> np.ndarray:
    """RGB uint8 (height, width, 3), upright, over white; of an animation its first frame.

    Raises :class:`InputError` for what cannot be read, is damaged or cut short, or has more than ``MOST_PIXELS``.
    """
    with _opened(path) as image:
        return _as_rgb(image)


def read_animation(path: Path) -> Iterator[tuple[float, float, np.ndarray]]:
    """(start in seconds, duration in seconds, RGB uint8 (height, width, 3)) of every frame of a WebP or AVIF.

    Raises :class:`InputError` at the frame that cannot be decoded, and at the end where some cannot be found.
    """
    milliseconds = 0.0
    with _opened(path) as image:
        found, stated = _frames_of(path, image)
        for index in range(found):
            image.seek(index)
            rgb = _as_rgb(image)
            duration = float(image.info.get("duration") or 0.0)
            duration = duration if duration >= LEAST_FRAME_MS else SHORT_FRAME_MS
            yield milliseconds / 1000, duration / 1000, rgb
            milliseconds += duration
    if found < stated:
        frames = f"{stated - found} frame{'s' * (stated > found + 1)}"
        raise InputError(f"{path}: damaged, {frames} cannot be found; fetch it again")


def read_grey(path: Path) -> np.ndarray:
    """A grey picture as it is stored: uint8, uint16 or float32 (h, w). Colours become grey, transparency black.

    Integers of 32 bits become float32. Raises :class:`InputError` for what cannot be read or is not finite.
    """
    with _opened(path) as image:
        grey = _as_grey(image)
    if grey.dtype == np.float32 and not np.isfinite(grey).all():
        raise InputError(f"{path}: holds values that are not finite; write this map again")
    return grey


def read_map(path: Path) -> np.ndarray:
    """A saliency map from a picture of any depth: float32 (h, w) in [0, 1].

    Integers are divided by the largest of their type; float values by their maximum where that is above 1. Raises
    :class:`InputError` for what cannot be read, negative values, and values that are not finite.
    """
    grey = read_grey(path)
    if grey.dtype != np.float32:
        return grey.astype(np.float32) / np.iinfo(grey.dtype).max
    if grey.min() < 0:
        raise InputError(f"{path}: holds negative values; a saliency map is 0 or more everywhere")
    return grey / max(1.0, float(grey.max()))


def write_picture(path: Path, image: np.ndarray, quality: int = 95, flush: bool = False) -> None:
    """uint8 or uint16, grey (h, w) or RGB (h, w, 3), in the format of the ending of ``path``; whole or not at all.

    ``quality`` is a JPEG's; ``flush``: see :func:`diffsal.files.whole_file`. Raises :class:`InputError` where the
    format cannot hold it, ``OSError`` where the disk cannot.
    """
    write_whole(path, encode_picture(image, path, quality), flush)


def encode_picture(image: np.ndarray, path: Path, quality: int = 95) -> bytes:
    """What :func:`write_picture` writes into ``path``."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        done, coded = cv2.imencode(path.suffix, image if image.ndim == 2 else image[..., ::-1], options)
    except cv2.error as error:
        done, reason = False, str(error.err or error)
    else:
        reason = "its encoder refused"
    if not done:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise InputError(f"{path}: a picture of {size} cannot be written as {path.suffix} ({reason}); use .png")
    return coded.tobytes()


def write_map(path: Path, saliency: np.ndarray, flush: bool = False) -> None:
    """A saliency map, float (h, w) in [0, 1], as a 16-bit grey PNG; whole or not at all."""
    write_picture(path, np.rint(np.clip(saliency, 0, 1) * HIGHEST_WORD).astype(np.uint16), flush=flush)


def over_ground(rgba: np.ndarray) -> np.ndarray:
    """uint8 RGBA (h, w, 4) → RGB (h, w, 3) over white."""
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = rgba[..., :3] * alpha + np.array(GROUND, np.uint16) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def check_size(name: str, width: int, height: int) -> None:
    """:class:`InputError` for a picture above the limit, or of no size at all."""
    if width * height > MOST_PIXELS:
        raise InputError(f"{name}: {width}x{height} is more than {MOST_PIXELS:,} pixels; reduce it first")
    if width < 1 or height < 1:
        raise InputError(f"{name}: its header says {width}x{height} pixels; fetch it again or re-encode it")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Pillow's image, its header read; whatever a decoder raises in the block becomes one line."""
    check_plain(Path(path))
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if not data:
        raise InputError(f"{path}: the file is empty; fetch or export it again")
    try:
        with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
            check_size(str(path), *image.size)
            if image.format == "TIFF":
                _check_tiff(path, image.tag_v2)
            yield image
    except InputError:
        raise
    except UnidentifiedImageError:
        if data[:4] in TIFF_MAGIC or COLOUR_PFM.match(data):
            yield _decode_floats(path, data)
            return
        hint = " (for HEIC: pip install pi-heif)" if data[4:8] == b"ftyp" and "HEIF" not in Image.OPEN else ""
        raise InputError(f"{path}: not a picture that can be decoded{hint}; replace or remove it") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: has more than {MOST_PIXELS:,} pixels; reduce it first") from None
    except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, ValueError, struct.error, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: the picture is damaged or cut short ({reason}); fetch it again") from None


def _check_tiff(path: Path, tags: Any) -> None:
    """:class:`InputError` for a TIFF that decoders take for another without a word."""
    compression = tags.get(COMPRESSION, 1)
    if compression not in TIFF_COMPRESSIONS:
        raise InputError(f"{path}: this TIFF's compression ({compression}) cannot be read; save it with LZW or none")
    bits = max(np.atleast_1d(tags.get(BITS, 1)).tolist())
    if bits == 16 and compression != 1 and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == SIGNED and tags.prefix == b"MM":
        raise InputError(f"{path}: a compressed big-endian TIFF of signed words cannot be read; save it as unsigned")
    if tags.get(PLANES, 1) == 2 and tags.get(SAMPLES, 1) > 1 and bits > 8:
        raise InputError(f"{path}: a TIFF of more than 8 bits with a plane for each colour cannot be read; save it "
                         "with the colours of each pixel together")


def _decode_floats(path: Path, data: bytes) -> Image.Image:
    """What Pillow does not know: TIFFs of float64 or float colours, PFM in colour; grey values in ``info["grey"]``."""
    from PIL import TiffImagePlugin

    pfm = COLOUR_PFM.match(data)
    try:
        if pfm:
            check_size(str(path), int(pfm[1]), int(pfm[2]))
        else:
            is_big = data[2] in (43, 0) and 43 in data[2:4]
            tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if is_big else data[:8])
            file = io.BytesIO(data)
            file.seek(tags.next)
            tags.load(file)
            check_size(str(path), int(tags[256]), int(tags[257]))
            _check_tiff(path, tags)
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would speak before our one line does
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except InputError:
        raise
    except Exception:  # as many kinds as in _opened
        values = None
    if values is None:
        raise InputError(f"{path}: not a picture that can be decoded; replace or remove it")
    if not pfm and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO and values.dtype.kind == "u":
        values = np.invert(values)
    values = values if values.dtype == np.uint16 else values.astype(np.float32)
    colours = values if values.ndim == 2 else values[..., 2::-1]
    image = Image.fromarray(_as_bytes(colours))
    image.info["grey"] = values if values.ndim == 2 else cv2.cvtColor(values[..., :3], cv2.COLOR_BGR2GRAY)
    image.format = "PPM" if pfm else "TIFF"
    return image


def _formats(data: bytes) -> list[str]:
    """Pillow's names of what is read, their plugins loaded."""
    from PIL import AvifImagePlugin, Jpeg2KImagePlugin, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

    Image.preinit()
    for order, mode in ((b"II", "I;16"), (b"MM", "I;16B")):  # half floats as words, of which _deep_values makes floats
        TiffImagePlugin.OPEN_INFO.setdefault((order, 1, (FLOAT,), 1, (16,), ()), (mode, mode))
    if data[4:8] == b"ftyp" and "HEIF" not in Image.OPEN:
        try:
            import pi_heif
        except ImportError:
            pass
        else:
            pi_heif.register_heif_opener(thumbnails=False)
    return [name for name in READABLE if name in Image.OPEN]


def _frames_of(path: Path, image: Image.Image) -> tuple[int, int]:
    """How many frames Pillow finds, and how many there should be: those that are damaged it leaves out."""
    found = getattr(image, "n_frames", 1)
    count = {"WEBP": webp_frames, "AVIF": avif_frames}.get(str(image.format))
    return found, max(found, count(path)) if count else found


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) after the turns that its camera asks for."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow says the upright size of these already
        return width, height
    return (height, width) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)


def _as_rgb(image: Image.Image) -> np.ndarray:
    image.load()
    upright: Any = ImageOps.exif_transpose(image)
    deep = _deep_values(image, upright)
    if deep is not None:
        grey = _as_bytes(deep)
        hidden = image.info.get("transparency")  # the one value that a PNG shows nothing of
        return np.repeat((grey if hidden is None else np.where(deep == hidden, GROUND[0], grey))[..., None], 3, 2)
    if upright.has_transparency_data:
        return over_ground(np.asarray(upright.convert("RGBA")))
    return np.ascontiguousarray(np.asarray(upright.convert("RGB")))


def _as_bytes(values: np.ndarray) -> np.ndarray:
    """Values of more than 8 bits as uint8: words by their high byte; others by their maximum, if it is above 1."""
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0)
    highest = float(values.max(initial=0.0))
    for scale in (1.0, 255.0, float(HIGHEST_WORD), highest):
        if highest <= scale and not (scale == 1.0 and np.array_equal(values, np.rint(values))):
            break
    return np.rint(values * (255 / max(scale, math.ulp(1.0)))).astype(np.uint8)


def _as_grey(image: Image.Image) -> np.ndarray:
    if "grey" in image.info:
        return image.info["grey"]
    deep = image.format in ("PNG", "TIFF") and image.mode in ("RGB", "RGBA") and _bits(image) > 8
    if deep:  # Pillow would keep 8 bits of each colour
        file = image.fp  # type: ignore[attr-defined]
        file.seek(0)
        data = np.frombuffer(file.read(), np.uint8)
        grey = cv2.imdecode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
        if grey is not None:
            return grey if grey.dtype in (np.uint8, np.uint16) else grey.astype(np.float32)
    image.load()
    upright: Any = ImageOps.exif_transpose(image)
    values = _deep_values(image, upright)
    if values is not None:
        return values
    if upright.has_transparency_data:
        light = np.asarray(upright.convert("RGBA").convert("RGB").convert("L")).astype(np.uint16)
        alpha = np.asarray(upright.convert("RGBA"))[..., 3].astype(np.uint16)
        return ((light * alpha + 127) // 255).astype(np.uint8)
    return np.asarray((upright.convert("RGB") if upright.mode == "LAB" else upright).convert("L"))


def _deep_values(image: Image.Image, upright: Image.Image) -> np.ndarray | None:
    """The grey values of an image of more than 8 bits or with signs, uint16 or float32; None of all others."""
    tags: Any = getattr(image, "tag_v2", {})
    kind = tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0]
    is_signed_byte = kind == SIGNED and upright.mode == "L"
    if not is_signed_byte and upright.mode not in ("F", "I") and not upright.mode.startswith("I;16"):
        return None
    values = np.asarray(upright)
    if upright.mode.startswith("I;16") and kind == FLOAT:  # see _formats
        return values.astype(np.uint16).view(np.float16).astype(np.float32)
    if kind == SIGNED and _bits(image) <= 16:
        values = values.astype(np.int8) if is_signed_byte else values
        highest = np.iinfo(np.int8 if is_signed_byte else np.int16).max
        is_dark = values.min() < 0
        return values.astype(np.float32) if is_dark else np.rint(values * (HIGHEST_WORD / highest)).astype(np.uint16)
    if tags and upright.mode == "I" and kind == UNSIGNED:
        values = values.view(np.uint32)  # Pillow's have a sign
    is_word = upright.mode.startswith("I;16") or (image.format == "PPM" and upright.mode == "I")
    values = values.astype(np.uint16 if is_word else np.float32)
    return HIGHEST_WORD - values if is_word and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else values


def _bits(image: Image.Image) -> int:
    """Bits of each colour, as the file stores them."""
    if image.format == "PNG":
        tiles = image.tile  # type: ignore[attr-defined]
        return 16 if any("16" in str(tile[3]) for tile in tiles) else 8
    bits = image.tag_v2.get(BITS, 8)  # type: ignore[attr-defined]
    return max(bits) if isinstance(bits, tuple) else int(bits)
