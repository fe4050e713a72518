"""What the parts of a file hold, against what ffprobe reads; parts that are lost, and zeros that are no loss."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import av
import pytest

from diffsal.media.chains import fragment_numbers
from diffsal.media.counts import num_pictures
from diffsal.media.source import open_source
from tests.media.test_ffmpeg_agrees import VIDEO, ffmpeg, probe
from tests.media.test_pauses_and_fragments import fragmented, fragments
from tests.movies import tone, write_movie

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
LARGE = ("-f", "lavfi", "-i", "testsrc=s=320x240:r=25:d=2,noise=alls=60:allf=t")  # one picture for each packet of 2 KB
SOUND = ("-f", "lavfi", "-i", "sine=d=2:r=48000")
H264 = "-c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p -c:a"


def held(path: Path) -> tuple[int, bool]:
    with av.open(str(path)) as container:
        stream, name = container.streams.video[0], container.format.name
        first = next(packet for packet in container.demux(stream) if packet.size)
        return num_pictures(str(path), name, stream.index if name == "avi" else stream.id, first.pos)


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "arguments"), [
    ("ts", f"{H264} aac"), ("ts", "-c:v mpeg2video -bf 2 -c:a mp2"), ("m2ts", f"{H264} ac3"),
    ("ts", f"{H264} aac -muxrate 3000000"), ("mpg", "-c:v mpeg2video -bf 2 -q:v 2 -c:a mp2"),
    ("vob", "-c:v mpeg2video -q:v 2 -c:a ac3"), ("mpg", "-c:v mpeg1video -q:v 1 -c:a mp2 -f vcd -ar 44100"),
    ("mkv", f"{H264} aac"), ("mkv", f"{H264} aac -live 1"),
    ("mkv", f"{H264} aac -reserve_index_space 9000"), ("webm", "-c:v libvpx -auto-alt-ref 1 -c:a libopus"),
    ("flv", f"{H264} aac"), ("flv", "-c:v flv -c:a mp3 -ar 44100"), ("avi", "-c:v mpeg4 -c:a mp3")])
def test_parts_hold_as_many_pictures_as_ffprobe_reads(tmp_path, suffix, arguments):
    path = tmp_path / f"a.{suffix}"
    ffmpeg(tmp_path, *LARGE, *SOUND, *arguments.split(), path.name)
    number, is_chain = held(path)
    packets = int(probe(path, "-count_packets", "-select_streams", "v", "-show_entries", "stream=nb_read_packets")[0])
    assert is_chain and number == packets
    source = open_source(path)
    assert len(list(source.frames())) == 50 and source.problems == []


def movie(path: Path, codec: str, sound: str, **more) -> Path:
    rate = 48_000 if path.suffix == ".webm" else 44_100
    return write_movie(path, codec=codec, options={"g": "5"}, grain=20, size=(96, 128), sound=tone(0.8, rate),
                       sound_rate=rate, sound_codec=sound, **more)


def told(path: Path, data: bytes) -> tuple[int, str]:
    """How many frames come out of ``data``, and the lines about it."""
    path.write_bytes(data)
    source = open_source(path)
    return len(list(source.frames())), " ".join(source.problems)


def test_a_picture_that_becomes_part_of_another_is_told(tmp_path):
    """A reader of MPEG-TS finds no picture where its first slice has another name, or its packet does not begin one."""
    path = movie(tmp_path / "a.ts", "libx264", "aac")
    data = path.read_bytes()
    assert told(path, data) == (20, "")
    slices = [at for at in range(len(data)) if data[at : at + 4] == b"\0\0\1\x41"]
    count, lines = told(path, data[: slices[2] + 3] + b"\x55" + data[slices[2] + 4 :])
    assert count == 19 and "1 of 20 frames cannot be found" in lines
    heads = [at for at in range(0, len(data), 188) if data[at + 1 : at + 3] == b"\x41\0"]  # a unit of 0x100 begins
    _, lines = told(path, data[: heads[3] + 1] + b"\1" + data[heads[3] + 2 :])
    assert "packets do not follow each other" in lines


def test_a_picture_of_mpeg2_that_has_lost_its_beginning_is_told(tmp_path):
    path = movie(tmp_path / "a.mpg", "mpeg2video", "mp2")
    data = path.read_bytes()
    heads = [at for at in range(len(data)) if data[at : at + 4] == b"\0\0\1\0"]
    assert told(path, data) == (20, "") and len(heads) == 20
    second = data.index(b"\0\0\1\2", heads[7])  # row
    count, lines = told(path, data[: heads[7]] + b"\x55" * (second - heads[7]) + data[second:])
    assert count == 19 and "1 of 20 frames cannot be found" in lines


def test_rows_of_tall_pictures_of_mpeg2_are_numbered_anew(tmp_path):
    path = write_movie(tmp_path / "a.mpg", num_frames=3, codec="mpeg2video", size=(2816, 32))
    assert told(path, path.read_bytes()) == (3, "")


def test_a_picture_that_becomes_a_field_of_the_next_is_told(tmp_path):
    """Two bits after the head of a picture of MPEG-2 say whether it is a frame; many small ones share a packet."""
    path = movie(tmp_path / "a.mpg", "mpeg2video", "mp2")
    data = path.read_bytes()
    assert told(path, data) == (20, "")
    kinds = [at + 6 for at in range(len(data)) if data[at : at + 5] == b"\0\0\1\xb5\x81"]
    assert data[kinds[5]] & 3 == 3
    count, lines = told(path, data[: kinds[5]] + bytes([data[kinds[5]] & ~2]) + data[kinds[5] + 1 :])
    assert count == 19 and "1 of 20 frames cannot be found" in lines


@pytest.mark.parametrize(("suffix", "codecs", "name", "become", "line"), [
    ("webm", ("libvpx", "libopus"), b"\xa3", b"\xe3", "parts do not follow"),
    ("flv", ("flv", "mp3"), b"\t", b"\x18", "tags do not follow")])
def test_a_part_that_nobody_knows_is_told(tmp_path, suffix, codecs, name, become, line):
    path = movie(tmp_path / f"a.{suffix}", *codecs)
    with av.open(str(path)) as container:
        position = [packet.pos for packet in container.demux(video=0) if packet.size][-1]
    data = path.read_bytes()
    place = data.rindex(name, 0, position + 1)
    assert position - place < 8 and told(path, data) == (20, "")
    count, lines = told(path, data[:place] + become + data[place + 1 :])
    assert count == 19 and line in lines


@needs_ffmpeg
def test_asf_whose_sound_is_whole_first_and_that_was_sent_while_it_was_made(tmp_path):
    """A packet of sound comes out before the picture that began before it; who sends knows no length yet."""
    ffmpeg(tmp_path, *LARGE, *SOUND, "-c:v", "mpeg4", "-bf", "2", "-g", "10", "-c:a", "mp2", "a.mpg")
    ffmpeg(tmp_path, "-i", "a.mpg", "-c", "copy", "b.asf")
    ffmpeg(tmp_path, "-i", "b.asf", "-c", "copy", "-f", "asf", "-seekable", "0", "file:c.asf")
    for path, seconds in ((tmp_path / "b.asf", 2.0), (tmp_path / "c.asf", None)):
        source = open_source(path)
        assert len(list(source.frames())) == 50 and source.problems == []
        assert source.duration_seconds == (seconds and pytest.approx(seconds, abs=0.1))


def test_a_frame_of_asf_whose_parts_are_not_there_is_told(tmp_path):
    path = movie(tmp_path / "a.wmv", "wmv2", "mp3")
    data = path.read_bytes()
    assert told(path, data) == (20, "")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][10]
    number = data.index(bytes(packet)[:40], packet.pos) - 16  # a place, sizes and a time come between
    assert data[number] == 11
    _, lines = told(path, data[:number] + b"\x51" + data[number + 1 :])
    assert "some of its parts are missing" in lines


def test_a_sample_without_bytes_is_lost_only_where_something_lies_in_its_place(tmp_path):
    """The size of a picture in an index of MOV becomes 0; QuickTime writes such pictures, too, for "as before"."""
    path = write_movie(tmp_path / "a.mov", codec="mjpeg", pixels="yuvj420p", grain=20)
    data = path.read_bytes()
    with av.open(str(path)) as container:
        begin, size = [(entry.pos, entry.size) for entry in container.streams.video[0].index_entries][-1]
    sizes = data.index(b"stsz") + 16
    lost = data[: sizes + 4 * 19] + bytes(4) + data[sizes + 4 * 20 :]
    count, lines = told(path, lost)
    assert count == 19 and "1 of 20 frames cannot be found" in lines
    mdat = data.index(b"mdat") - 4
    assert mdat < begin < begin + size < sizes
    shorter = struct.pack(">I", struct.unpack_from(">I", data, mdat)[0] - size)
    same = lost[:mdat] + shorter + lost[mdat + 4 : begin] + lost[begin + size :]
    assert told(path, same) == (19, "")


def test_a_frame_that_lasts_longer_than_its_track_has_not_pushed_the_others_out_of_it(tmp_path):
    """Of what an edit list shows, 0.8 s, its first frame takes all."""
    path = write_movie(tmp_path / "a.mov", codec="mjpeg", pixels="yuvj420p", grain=20)
    data = path.read_bytes()
    duration = data.index(b"stts") + 16
    assert told(path, data) == (20, "") and struct.unpack_from(">II", data, duration - 4) == (20, 3600)
    count, lines = told(path, data[:duration] + b"\1" + data[duration + 1 :])
    assert count == 1 and "19 of 20 frames cannot be found" in lines


@pytest.mark.parametrize(("suffix", "codecs"), [("ts", ("libx264", "aac")), ("flv", ("flv", "mp3"))])
def test_zeros_after_the_end_are_no_damage(tmp_path, suffix, codecs):
    """A disk's last place is filled up; what is longer may be a download that was not finished, which FLV rules out."""
    path = movie(tmp_path / f"a.{suffix}", *codecs)
    data = path.read_bytes()
    for number in (10, 188, 4096, 65_536):
        assert told(path, data + bytes(number)) == (20, "")
    count, lines = told(path, data + bytes(300_000))
    assert count == 20 and lines == (
        "" if suffix == "flv" else
        f"{path}: ends with 300,000 bytes of zeros; if its download was not finished, fetch it again")
    count, lines = told(path, data[: len(data) // 376 * 188] + bytes(300_000))
    assert count < 20 and ("fetch it again" in lines or "fetch the file again" in lines)
    if suffix == "flv":
        live = data.replace(b"duration", b"duratiom")
        assert "ends with 300,000 bytes of zeros" in told(path, live + bytes(300_000))[1]


@needs_ffmpeg
@pytest.mark.parametrize("arguments", ["-bsf:v mpeg4_unpack_bframes b.mkv", "-f mpegts b.ts", "b.mpg"])
def test_what_stands_for_a_picture_of_mpeg4_that_came_before_is_none(tmp_path, arguments):
    """Xvid packs a picture that is shown later into the packet of another; an empty one takes its place."""
    ffmpeg(tmp_path, *VIDEO, "-c:v", "libxvid", "-bf", "2", "-g", "12", "a.avi")
    ffmpeg(tmp_path, "-fflags", "+genpts", "-i", "a.avi", "-c", "copy", *arguments.split())
    path = tmp_path / arguments.split()[-1]
    source = open_source(path)
    assert len(list(source.frames())) == int(probe(path, "-count_frames", "-select_streams", "v", "-show_entries",
                                                   "stream=nb_read_frames")[0])
    assert source.problems == []


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg4"])
@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_a_cut_in_an_open_group_of_pictures_without_their_times(tmp_path, codec, suffix):
    """AVI says nothing of when to show a picture, and in this Matroska those before the key frame have its time."""
    ffmpeg(tmp_path, *VIDEO, "-c:v", codec, "-bf", "2", "-g", "10", f"a.{suffix}")
    ffmpeg(tmp_path, "-ss", "0.7", "-i", f"a.{suffix}", "-c", "copy", f"b.{suffix}")
    path = tmp_path / f"b.{suffix}"
    count = probe(path, "-count_frames", "-select_streams", "v", "-show_entries", "stream=nb_read_frames")[0]
    source = open_source(path)
    assert len(list(source.frames())) == int(count) and source.problems == []


def test_one_of_three_fragments_is_missing(tmp_path):
    path = fragmented(tmp_path / "a.mp4")
    head, parts = fragments(path)
    path.write_bytes(head + parts[0] + parts[2])
    assert fragment_numbers(str(path)) == [1, 3]
    count, lines = told(path, path.read_bytes())
    assert count == 20 and "about 10 frames cannot be found" in lines
