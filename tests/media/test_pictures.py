"""Pictures and maps of every depth, orientation, transparency and number of parts; limits before memory."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from diffsal.errors import InputError
from diffsal.media.pictures import (
    MOST_PIXELS,
    read_animation,
    read_grey,
    read_header,
    read_map,
    read_picture,
    write_map,
    write_picture,
)
from diffsal.media.source import open_source

CORNERS = np.zeros((32, 48, 3), np.uint8)
CORNERS[:16, :24], CORNERS[:16, 24:], CORNERS[16:, :24], CORNERS[20:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 255


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What EXIF 2.32 (tag 274) says is seen where ``stored`` is what lies in the file."""
    turned = stored.transpose(1, 0, 2) if orientation >= 5 else stored
    down = slice(None, None, -1) if orientation in (3, 4, 7, 8) else slice(None)
    across = slice(None, None, -1) if orientation in (2, 3, 6, 7) else slice(None)
    return turned[down, across]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_orientations(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(CORNERS).save(path, exif=exif, quality=95)
    wanted, header, image = upright(CORNERS, orientation), read_header(path), read_picture(path)
    assert (header.height, header.width) == image.shape[:2] == wanted.shape[:2]
    assert abs(image.astype(int) - wanted).mean() < 12
    if suffix == "jpg":  # OpenCV knows the orientations of these, too
        assert abs(cv2.imread(str(path))[..., ::-1].astype(int) - image).mean() < 3


@pytest.mark.parametrize(("kind", "suffix"), [
    (np.uint8, "png"), (np.uint16, "png"), (np.uint16, "tif"), (np.int32, "tif"), (np.uint32, "tif"),
    (np.float32, "tif"), (np.float64, "tif"), (np.float32, "pfm"),
])
def test_maps_of_every_depth(tmp_path, kind, suffix):
    values = np.random.default_rng(0).random((20, 30))
    values[0, 0] = 1
    path = tmp_path / f"a.{suffix}"
    stored = values.astype(kind) if np.issubdtype(kind, np.floating) else np.rint(values * np.iinfo(kind).max)
    assert cv2.imwrite(str(path), stored.astype(kind))
    assert read_map(path) == pytest.approx(values, abs=0.002 if kind == np.uint8 else 8e-6)
    assert read_picture(path).mean() / 255 == pytest.approx(values.mean(), abs=0.002)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_deep_colours_keeps_their_depth(tmp_path, suffix):
    values = np.random.default_rng(0).integers(0, 65_536, (20, 30), np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), np.repeat(values[..., None], 3, 2))
    grey = read_grey(tmp_path / f"a.{suffix}")
    assert grey.dtype == np.uint16 and abs(grey.astype(int) - values).max() <= 1


def test_maps_that_are_none(tmp_path):
    for name, value, said in (("a", -0.1, "negative"), ("b", np.nan, "not finite"), ("c", np.inf, "not finite")):
        cv2.imwrite(str(tmp_path / f"{name}.tif"), np.full((4, 5), value, np.float32))
        with pytest.raises(InputError, match=said) as raised:
            read_map(tmp_path / f"{name}.tif")
        assert f"{name}.tif" in str(raised.value)


def test_maps_are_written_with_16_bits(tmp_path):
    values = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    write_map(tmp_path / "a.png", values)
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16 and np.array_equal(stored, np.rint(values * 65_535))
    assert read_map(tmp_path / "a.png") == pytest.approx(values, abs=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_what_a_format_cannot_hold(tmp_path):
    with pytest.raises(InputError, match=r"70000x1 cannot be written as \.jpg"):
        write_picture(tmp_path / "a.jpg", np.zeros((1, 70_000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "avif", "gif"])
def test_transparency_is_over_white_and_hidden_colours_stay_hidden(tmp_path, suffix):
    rgba = np.full((64, 96, 4), 255, np.uint8)
    rgba[:, 48:] = (255, 0, 255, 0)
    rgba[:20, :48] = (0, 0, 0, 255)
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(rgba).save(tmp_path / f"a.{suffix}", **options)
    image = read_picture(tmp_path / f"a.{suffix}").astype(int)
    assert abs(image[:, 60:] - 255).max() <= 2 and abs(image[:10, :40]).max() <= 2
    assert abs(image[30:, :40] - 255).max() <= 2


def test_half_transparent_pixels_are_mixed(tmp_path):
    rgba = np.full((4, 4, 4), (100, 0, 200, 128), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png")[0, 0].tolist() == [177, 127, 227]  # 255 - (255 - x) 128 / 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr"])
def test_modes(tmp_path, mode):
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    image = Image.fromarray(np.full((16, 16), 40_000, np.uint16)) if mode == "I;16" else Image.new(
        "L", (16, 16), 255).convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    assert read_picture(tmp_path / f"a.{suffix}")[3, 3] == pytest.approx([156 if mode == "I;16" else 255] * 3, abs=1)


@pytest.mark.parametrize("suffix", ["webp", "avif"])
def test_animations_have_frames(tmp_path, suffix):
    shots = [Image.new("RGB", (96, 64), (i * 50, 0, 0)) for i in range(5)]
    shots[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=shots[1:], duration=[40, 60, 100, 1000, 3000])
    frames = list(read_animation(tmp_path / f"a.{suffix}"))
    assert [f[0] for f in frames] == pytest.approx([0, 0.04, 0.1, 0.2, 1.2]) and frames[-1][1] == pytest.approx(3)
    assert [int(f[2][32, 48, 0]) for f in frames] == pytest.approx([0, 50, 100, 150, 200], abs=3)
    assert read_header(tmp_path / f"a.{suffix}").is_animated


def test_pages_of_a_tiff_are_no_animation(tmp_path):
    pages = [Image.new("L", (8, 8), i) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    header = read_header(tmp_path / "a.tif")
    assert header.num_frames == 3 and not header.is_animated


def test_a_grid_of_tiles_is_one_picture(tmp_path):
    whole = np.random.default_rng(0).integers(0, 255, (4, 8, 3), np.uint8).repeat(64, 0).repeat(64, 1)
    for column in range(2):
        Image.fromarray(whole[:, 256 * column :][:, :256]).save(tmp_path / f"{column}.png")
    try:
        subprocess.run(["avifenc", "-s", "10", "--grid", "2x1", "0.png", "1.png", "a.avif"], cwd=tmp_path, check=True,
                       capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs avifenc (apt install libavif-bin)")
    image = read_picture(tmp_path / "a.avif")
    assert image.shape == whole.shape and abs(image.astype(int) - whole).mean() < 8


def test_heic(tmp_path):
    """A phone's grid of tiles, turned by its container; what EXIF says of it is then no longer so."""
    pillow_heif = pytest.importorskip("pillow_heif")
    whole = np.random.default_rng(0).integers(0, 255, (4, 8, 3), np.uint8).repeat(64, 0).repeat(64, 1)
    before, pillow_heif.options.GRID_TILE_SIZE = getattr(pillow_heif.options, "GRID_TILE_SIZE", None), 256
    try:
        pillow_heif.from_pillow(Image.fromarray(whole)).save(tmp_path / "a.heic", quality=90)
    finally:
        pillow_heif.options.GRID_TILE_SIZE = before
    assert read_header(tmp_path / "a.heic").width == 512
    assert abs(read_picture(tmp_path / "a.heic").astype(int) - whole).mean() < 8


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(path: Path, width: int, height: int) -> Path:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(("width", "height"), [(200_000, 200_000), (MOST_PIXELS + 1, 1), (2**31 - 1, 2**31 - 1)])
def test_claims_above_the_limit_are_refused_before_memory_is_taken(tmp_path, width, height):
    import resource
    import tracemalloc

    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (read_header, read_picture, read_grey, read_map):
        with pytest.raises(InputError, match="pixels"):
            read(bomb(tmp_path / "a.png", width, height))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif", "bmp"])
def test_a_picture_that_is_cut_short_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"a\.{suffix}: ") as raised:
        read_picture(path)
    assert "\n" not in str(raised.value)


def test_what_is_no_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(b"hello")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")  # would run Ghostscript
    for name, said in (("a", "not a picture"), ("b", "empty"), ("c", "not a picture"), ("d", "cannot be read")):
        with pytest.raises(InputError, match=rf"{name}\.png: .*{said}"):
            read_picture(tmp_path / f"{name}.png")


@pytest.mark.parametrize("most", [100, 255, 1023, 65_535])
def test_a_netpbm_map_is_divided_by_the_most_that_it_states(tmp_path, most):
    values = np.random.default_rng(0).integers(0, most // 2, (20, 30))
    path = tmp_path / "a.pgm"
    path.write_bytes(f"P5\n30 20\n{most}\n".encode() + values.astype(np.uint8 if most < 256 else ">u2").tobytes())
    assert np.abs(read_map(path) - values / most).max() < 1.01 / min(255, most)
    assert np.abs(read_picture(path) - (255 * values / most)[..., None]).max() < 1.01


def test_the_hidden_value_of_a_grey_png_of_16_bits_is_white(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    values = np.array([[0x1234, 0x1235], [0xFFFF, 0]], ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 0, 0, 0, 0)) + chunk(
        b"tRNS", b"\x12\x34") + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert read_picture(path)[..., 0].tolist() == [[255, 0x12], [255, 0]]


VALUES = np.linspace(0, 1, 30 * 40).reshape(30, 40)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["f2", "i1", "i2", "u2", "white is 0"])
def test_tiffs_of_every_kind_of_number(tmp_path, order, compression, kind):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    highest = {"i1": 127, "i2": 32_767, "f2": 1}.get(kind, 65_535)
    stored = (VALUES / 2 * highest).astype("f2") if kind == "f2" else np.rint(VALUES / 2 * highest)
    stored = (65_535 - stored).astype("u2") if kind.startswith("w") else stored.astype(kind)
    tifffile.imwrite(path, stored, byteorder=order, compression=compression,
                     photometric="miniswhite" if kind.startswith("w") else "minisblack")
    wanted = tifffile.imread(path) / highest
    wanted = 1 - wanted if kind.startswith("w") else wanted
    if kind == "i2" and order == ">" and compression:
        with pytest.raises(InputError, match=r"a\.tif: .*signed words cannot be read; save it as unsigned"):
            read_map(path)
        return
    assert np.abs(read_map(path) - wanted).max() < 1e-5
    assert np.abs(read_picture(path) / 255 - wanted[..., None]).max() < 0.0021


@pytest.mark.parametrize("kind", ["i1", "i2", "f2"])
def test_a_tiff_below_zero_is_no_map(tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.full((8, 8), -3, kind))
    with pytest.raises(InputError, match=r"a\.tif: holds negative values"):
        read_map(tmp_path / "a.tif")


def test_tiffs_that_decoders_take_for_others_are_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    colours = np.stack([VALUES, 1 - VALUES, VALUES[::-1]])
    tifffile.imwrite(tmp_path / "planes16.tif", np.rint(colours * 65_535).astype("u2"), photometric="rgb",
                     planarconfig="separate")
    tifffile.imwrite(tmp_path / "planesf.tif", colours.astype("f4"), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "planes8.tif", np.rint(colours * 255).astype("u1"), photometric="rgb",
                     planarconfig="separate")
    whole = tmp_path / "jpeg2000.tif"
    Image.fromarray(np.rint(VALUES * 255).astype("u1")).save(whole)
    data, entry = bytearray(whole.read_bytes()), struct.pack("<HHI", 259, 3, 1)
    at = data.index(entry) + len(entry)
    data[at : at + 2] = struct.pack("<H", 34_712)  # the number of JPEG 2000: OpenCV shows black
    whole.write_bytes(data)
    for name, said in (("planes16", "a plane for each colour"), ("planesf", "a plane for each colour"),
                       ("jpeg2000", r"compression \(34712\)")):
        for read in (read_picture, read_grey):
            with pytest.raises(InputError, match=rf"{name}\.tif: .*{said}"):
                read(tmp_path / f"{name}.tif")
    assert np.abs(read_picture(tmp_path / "planes8.tif") / 255 - colours.transpose(1, 2, 0)).max() < 0.0021


def test_deep_colours_that_only_one_decoder_knows_are_not_damaged(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    colours = np.repeat(np.rint(VALUES * 65_535).astype("u2")[..., None], 3, 2)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", compression="lzma")
    assert np.abs(read_map(tmp_path / "a.tif") - VALUES).max() < 0.005


@pytest.mark.parametrize("order", "<>")
def test_a_pfm_in_colour(tmp_path, order):
    colours = np.stack([VALUES, 1 - VALUES, VALUES[::-1]], -1)
    scale = -1 if order == "<" else 1
    path = tmp_path / "a.pfm"
    path.write_bytes(f"PF\n40 30\n{scale}.0\n".encode() + colours[::-1].astype(f"{order}f4").tobytes())
    assert np.abs(read_picture(path) / 255 - colours).max() < 0.0021
    assert np.abs(read_map(path) - colours @ [0.299, 0.587, 0.114]).max() < 1e-4
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"a\.pfm: "):
        read_picture(path)
    path.write_bytes(b"PF\n400000 300000\n-1.0\n")
    with pytest.raises(InputError, match="more than"):
        read_picture(path)


@pytest.mark.parametrize("suffix", [".hif", ".mpo"])
def test_files_of_cameras_are_one_picture(tmp_path, suffix):
    views = [Image.fromarray(CORNERS), Image.fromarray(255 - CORNERS)]
    views[0].save(tmp_path / "a.mpo", save_all=True, append_images=views[1:], quality=95)
    path = (tmp_path / "a.mpo").rename(tmp_path / f"a{suffix}")
    source = open_source(path)
    assert source.is_picture and len(list(source.frames())) == 1


def test_a_drawing_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"/>')
    with pytest.raises(InputError, match=r"a\.svg: (holds nothing that can be decoded; convert .* to PNG|not a video)"):
        open_source(tmp_path / "a.svg")
