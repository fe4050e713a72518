"""Recordings that were joined, pictures that are held, sound that an edit list hides, first frames that are lost."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from diffsal.media.counts import num_pictures
from diffsal.media.source import open_source
from diffsal.outputs.render import Outputs, render
from tests.media.test_ffmpeg_agrees import ffmpeg, frame_times, probe
from tests.movies import picture, tone, write_movie
from tests.standin import StandIn

needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
VIDEO = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=1")


def parts(folder: Path, suffix: str, codecs: tuple[str, str], starts: tuple[str, str], *more: str) -> list[bytes]:
    for number, start in enumerate(starts):
        ffmpeg(folder, *VIDEO, "-f", "lavfi", "-i", "sine=440:d=1.05", "-c:v", codecs[0], "-c:a", codecs[1], "-ar",
               "44100", "-output_ts_offset", start, *more, f"{number}.{suffix}")
    return [(folder / f"{number}.{suffix}").read_bytes() for number in range(len(starts))]


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "codecs", "starts"), [
    ("vob", ("mpeg2video", "ac3"), ("100", "0")),  # the end that stamps state is 26 hours away
    ("flv", ("flv", "libmp3lame"), ("0", "0")),  # the sound is longer: a wait of two frames at the seam
    ("ogv", ("libtheora", "libvorbis"), ("0", "0")),  # the second begins with headers, which are no pictures
])
def test_joined_recordings_are_whole(tmp_path, suffix, codecs, starts):
    first, second = parts(tmp_path, suffix, codecs, starts, "-fflags", "+bitexact")  # the same serial numbers in Ogg
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(first + (second[13:] if suffix == "flv" else second))  # without its second file header
    source = open_source(path)
    seconds = np.array([frame.seconds for frame in source.frames()])
    assert len(seconds) == 50 and source.problems == []
    assert np.delete(np.diff(seconds), 24) == pytest.approx(0.04, abs=1.1e-3)
    assert 0.03 < seconds[25] - seconds[24] < 0.2


@needs_ffmpeg
def test_what_comes_before_a_reader_gives_up_is_whole(tmp_path):
    """FFmpeg reads no Ogg whose numbers change in the middle; the last pictures before it are still in the decoder."""
    path = tmp_path / "joined.ogv"
    path.write_bytes(b"".join(parts(tmp_path, "ogv", ("libtheora", "libvorbis"), ("0", "0"))))
    source = open_source(path)
    assert len(list(source.frames())) == 25 == int(probe(path, "-count_packets", "-select_streams", "v",
                                                         "-show_entries", "stream=nb_read_packets")[0])
    assert len(source.problems) == 1 and "damaged in the middle" in source.problems[0]


def held(path: Path, codec: str, times: list[float], last_seconds: float) -> Path:
    """Frames at ``times``, the last of them for ``last_seconds``."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for index, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index, 48, 64), format="rgb24")
            frame.pts, frame.time_base = round(1000 * seconds), Fraction(1, 1000)
            packets += video.encode(frame)
        packets = [packet for packet in packets + video.encode(None) if packet.size]
        ends = [*times[1:], times[-1] + last_seconds]
        for packet, start, end in zip(packets, times, ends, strict=True):
            packet.duration = round((end - start) / packet.time_base)
            container.mux(packet)
    return path


def test_an_flv_whose_last_picture_is_held_is_whole_and_one_that_is_cut_is_not(tmp_path):
    path = held(tmp_path / "a.flv", "flv", [0.04 * i for i in range(10)], 3)
    source = open_source(path)
    assert len(list(source.frames())) == 10 and source.problems == []
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux() if packet.size]
    path.write_bytes(path.read_bytes()[: positions[7] - 16])  # between two tags
    source = open_source(path)
    assert len(list(source.frames())) == 7
    assert source.problems[-1] == (f"{path}: ends at 0.28 s of 3.36 s, the file is cut short; the 7 frames before are "
                                   "done, fetch the file again for the rest")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_with_exif_in_a_video(tmp_path, orientation):
    """Cameras' MJPEG carries EXIF, for which PyAV has no name; how it lies is what Pillow says."""
    from PIL import Image, ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16, :16], image[:16, 48:] = 255, (255, 0, 0)
    path = tmp_path / "a.mjpeg"
    Image.fromarray(image).save(path, "JPEG", exif=exif, quality=95)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    source = open_source(path)
    (frame,) = source.frames()
    assert (source.height, source.width) == shown.shape[:2] == frame.size
    assert np.abs(frame.image.astype(int) - shown).mean() < 5


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_last_frame_that_is_shorter_than_most(tmp_path, suffix):
    path = held(tmp_path / f"slides.{suffix}", "libx264", [0, 1, 3], 0.04)
    target = tmp_path / "overlay.mp4"
    render(StandIn(noise=0), str(path), Outputs(overlay=target))
    ends = [float(probe(file, "-show_entries", "format=duration")[0]) for file in (path, target)]
    assert ends == pytest.approx([3.04, 3.04], abs=1.1e-3)


@needs_ffmpeg
def test_sound_that_an_edit_list_hides_is_in_no_overlay(tmp_path):
    """``ffmpeg -ss … -c copy`` leaves half a second before the cut in the file; only MP4 can say not to play it."""
    whole = write_movie(tmp_path / "a.mp4", num_frames=50, flash=30, sound=tone(2, 48_000, 1.2), sound_rate=48_000)
    ffmpeg(tmp_path, "-ss", "0.5", "-i", whole.name, "-c", "copy", "cut.mp4")
    source = open_source(tmp_path / "cut.mp4")
    seconds = [frame.seconds for frame in source.frames()]
    for suffix in ("mp4", "mkv"):
        target = tmp_path / f"overlay.{suffix}"
        assert render(StandIn(noise=0), str(tmp_path / "cut.mp4"), Outputs(overlay=target)).problems == []
        assert frame_times(target) == pytest.approx(seconds, abs=1e-3)
        shown = open_source(target)
        sound = shown.sound()
        loud = np.abs(sound.excerpt(0, len(sound.waveform))) > 0.2
        click = sound.start_seconds + float(loud.argmax()) / sound.rate + shown.origin_seconds
        assert click == pytest.approx(0.7, abs=0.003)  # 1.2 s less the cut


@pytest.mark.parametrize(("suffix", "codecs"), [
    ("webm", ("libvpx", "libopus")), ("mkv", ("libx264", "aac")), ("wmv", ("wmv2", "mp3"))])
def test_first_frames_that_are_lost_are_told(tmp_path, suffix, codecs):
    """Readers of these go on at the next key frame, without a word. Hidden pictures of VP8 are no lost ones."""
    options = {"g": "5", "auto-alt-ref": "1", "lag-in-frames": "10"} if suffix == "webm" else {"g": "5"}
    rate = 48_000 if suffix == "webm" else 44_100
    path = write_movie(tmp_path / f"a.{suffix}", codec=codecs[0], options=options, grain=60, size=(96, 128),
                       sound=tone(0.8, rate), sound_rate=rate, sound_codec=codecs[1])
    source = open_source(path)
    assert len(list(source.frames())) == 20 and source.problems == []
    with av.open(str(path)) as container:
        first = next(p for p in container.demux(video=0) if p.size)
    data = bytearray(path.read_bytes())
    data[first.pos - 2 : first.pos + 8] = bytes(10)  # the head of the packet that holds it
    path.write_bytes(data)
    source = open_source(path)
    assert len(list(source.frames())) < 20
    assert len(source.problems) == 1 and "damaged" in source.problems[0]


@needs_ffmpeg
def test_first_frames_that_are_lost_beside_a_second_sound_are_told(tmp_path):
    """Its packets stand between the pictures', though nobody asks for them."""
    write_movie(tmp_path / "a.mkv", options={"g": "5"}, grain=60, size=(96, 128), sound=tone(0.8, 44_100),
                sound_rate=44_100)
    path = tmp_path / "b.mkv"
    ffmpeg(tmp_path, "-i", "a.mkv", "-map", "0:a", "-map", "0:a", "-map", "0:v", "-c", "copy", path.name)
    source = open_source(path)
    assert len(list(source.frames())) == 20 and source.problems == []
    with av.open(str(path)) as container:
        first = next(p for p in container.demux(video=0) if p.size)
    broken = bytearray(path.read_bytes())
    broken[first.pos - 2 : first.pos + 8] = bytes(10)
    path.write_bytes(broken)
    source = open_source(path)
    assert len(list(source.frames())) < 20
    assert len(source.problems) == 1 and "damaged" in source.problems[0]


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mkv", "flv"])
def test_a_clip_that_waits_has_lost_nothing_and_one_with_a_damaged_frame_has(tmp_path, suffix):
    """Frames that a screen recorder left out: no bytes are missing between the others."""
    times = [i / 25 for i in range(23) if i not in (4, 5, 18)]
    path = write_movie(tmp_path / f"a.{suffix}", times, options={"g": "5", "bf": "0"}, grain=60, size=(96, 128))
    source = open_source(path)
    assert len(list(source.frames())) == 20 and source.problems == []
    with av.open(str(path)) as container:
        position = [p.pos for p in container.demux(video=0) if p.size][10]
    data = bytearray(path.read_bytes())
    if suffix == "mkv":  # the block becomes one that is to be passed over
        data[data.rindex(b"\xa3", 0, position)] = 0xEC
    else:  # a kind of tag that nobody knows
        assert data[position] == 9
        data[position] = 5
    path.write_bytes(data)
    source = open_source(path)
    assert len(list(source.frames())) == 19 and len(source.problems) == 1 and "damaged" in source.problems[0]


def test_a_gif_whose_blocks_do_not_follow_each_other_says_so(tmp_path):
    from PIL import Image

    path, shots = tmp_path / "a.gif", [Image.new("RGB", (64, 48), (40 * i, 0, 0)) for i in range(6)]
    shots[0].save(path, save_all=True, append_images=shots[1:], duration=40, comment=b"made by a test")
    source = open_source(path)
    assert len(list(source.frames())) == 6 and source.problems == []
    data = path.read_bytes()
    place = data.index(b"\x21\xf9\x04", len(data) // 2)  # what stands before a picture
    longer = data[: place + 2] + b"\xf2" + data[place + 3 :]  # it ends where the next begins
    for broken in (data[:place] + b"\x77" + data[place:], data[:place] + b"\0" + data[place:], longer):
        path.write_bytes(broken)
        source = open_source(path)
        list(source.frames())
        assert len(source.problems) == 1 and "damaged in the middle" in source.problems[0]


def test_packets_of_a_transport_stream_that_do_not_follow_each_other_are_told(tmp_path):
    """Two recordings, or one that begins within a packet, are whole; a byte too many or half a packet are not."""
    path = write_movie(tmp_path / "a.ts", codec="libx264", options={"g": "5"}, grain=20, size=(96, 128))
    data = path.read_bytes()
    assert len(data) % 188 == 0
    for whole in (data, data + data, data[-100:] + data):
        path.write_bytes(whole)
        source = open_source(path)
        list(source.frames())
        assert source.problems == []
    packet = 188 * (len(data) // 376)
    for broken in (data[:packet] + b"\0" + data[packet:], data[: packet + 17]):
        path.write_bytes(broken)
        source = open_source(path)
        list(source.frames())
        assert any("packets do not follow each other" in line or "cut short" in line for line in source.problems)


def test_a_frame_whose_names_are_both_damaged_is_told(tmp_path):
    """The chunk of a WebP and what it begins with; a chunk of somebody's own may stand at the end."""
    from PIL import Image

    path, shots = tmp_path / "a.webp", [Image.new("RGB", (64, 48), (40 * i, 0, 0)) for i in range(6)]
    shots[0].save(path, save_all=True, append_images=shots[1:], duration=40)
    data = path.read_bytes()
    size = int.from_bytes(data[4:8], "little")
    path.write_bytes(data[:4] + (size + 12).to_bytes(4, "little") + data[8:] + b"OURS\4\0\0\0abcd")
    source = open_source(path)
    assert len(list(source.frames())) == 6 and source.problems == []
    places = [at for at in range(len(data)) if data[at : at + 4] == b"ANMF"]
    last = b"1NMF" + data[places[-1] + 4 : places[-1] + 24] + bytes(4)
    for place, broken in ((places[-1], last), (places[-1], bytes(28)), (places[2], bytes(28))):
        path.write_bytes(data[:place] + broken + data[place + 28 :])
        source = open_source(path)
        assert len(list(source.frames())) == 5 and len(source.problems) == 1


@pytest.mark.parametrize(("suffix", "name", "become"), [
    ("png", b"fcTL", b"fctL"), ("webp", b"ANMF", b"ANNF"), ("webp", b"VP8 ", b"VP9 "),
    ("gif", b"\0\x21\xf9\x04", b"\x0f\x21\xf9\x04")])
def test_a_frame_whose_name_is_damaged_is_told(tmp_path, suffix, name, become):
    """An animation whose third frame is no longer known as one; in the GIF its head belongs to the one before."""
    from PIL import Image

    path, shots = tmp_path / f"a.{suffix}", [Image.new("RGB", (64, 48), (40 * i, 0, 0)) for i in range(6)]
    shots[0].save(path, save_all=True, append_images=shots[1:], duration=40)
    source = open_source(path)
    assert len(list(source.frames())) == 6 and source.problems == []
    head, *others = path.read_bytes().split(name)
    others[2] = become + others[2]
    path.write_bytes(name.join([head, *others[:2]]) + others[2] + b"".join(name + other for other in others[3:]))
    source = open_source(path)
    assert len(list(source.frames())) < 6
    assert len(source.problems) == 1 and "damaged" in source.problems[0]


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "codecs"), [
    ("wmv", ("wmv2", "mp3")), ("nut", ("ffv1", "flac")), ("flv", ("flv", "mp3")), ("webm", ("libvpx", "libopus")),
    ("ts", ("libx264", "aac")), ("mkv", ("libx264", "aac"))])
def test_what_a_reader_passes_over_is_told_by_what_it_logs(tmp_path, suffix, codecs, capfd):
    """Its own words stand in the line, and nothing of them on the terminal."""
    rate = 48_000 if suffix == "webm" else 44_100
    path = write_movie(tmp_path / f"a.{suffix}", codec=codecs[0], options={"g": "5"}, grain=60, size=(96, 128),
                       sound=tone(0.8, rate), sound_rate=rate, sound_codec=codecs[1])
    source = open_source(path)
    assert len(list(source.frames())) == 20 and source.problems == []
    with av.open(str(path)) as container:
        place = [p.pos for p in container.demux(video=0) if p.size][10]
    data = bytearray(path.read_bytes())
    data[place - 4 : place + 60] = bytes(64)
    path.write_bytes(data)
    source = open_source(path)
    assert len(list(source.frames())) < 20 and "damaged" in source.problems[0]
    assert capfd.readouterr() == ("", "") and av.logging.get_level() is None


def test_the_pictures_in_an_avi_are_counted_chunk_by_chunk(tmp_path):
    path = write_movie(tmp_path / "a.avi", codec="mpeg4", options={"g": "5"}, grain=60, sound=tone(0.8, 44_100),
                       sound_rate=44_100, sound_codec="mp3")
    assert num_pictures(str(path), "avi", 0, 0) == (20, True)
    data = path.read_bytes()
    place = data.index(b"00dc", data.index(b"00dc", data.index(b"movi")) + 4)
    path.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
    assert num_pictures(str(path), "avi", 0, 0) == (1, False)


def test_colours_that_nobody_knows_are_as_if_nothing_was_said(tmp_path):
    from diffsal.media.orientation import upright

    with av.open(str(write_movie(tmp_path / "a.mp4", num_frames=1))) as container:
        frame = next(container.decode(video=0))
        expected = upright(frame)
        frame.colorspace = 65
        assert np.array_equal(upright(frame), expected)


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "arguments"), [
    ("avi", "-f avi -c:v mpeg4"), ("asf", "-f asf -c:v libx264 -bf 2"), ("mkv", "-f matroska -c:v libx264"),
    ("flv", "-f flv -c:v libx264"), ("webm", "-f webm -live 1 -c:v libvpx"), ("nut", "-f nut -c:v ffv1"),
    ("mp4", "-f mp4 -movflags frag_keyframe+empty_moov -c:v libx264"), ("ts", "-f mpegts -c:v libx264")])
def test_what_ffmpeg_writes_into_a_pipe_is_whole(tmp_path, suffix, arguments):
    """Where nobody can go back, headers do not say how long the file is."""
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *VIDEO, *arguments.split(), "-"], check=True,
                                    capture_output=True).stdout)
    source = open_source(path)
    assert len(list(source.frames())) == 25 and source.problems == []


def test_frames_that_a_decoder_holds_back_are_told(tmp_path):
    """Without its first key frame a clip loses more than half; that many packets are not fields of frames."""
    whole = write_movie(tmp_path / "a.mkv", num_frames=40, options={"g": "25", "sc_threshold": "0"})
    with av.open(str(whole)) as inside, av.open(str(tmp_path / "b.mkv"), "w") as outside:
        stream = outside.add_stream_from_template(inside.streams.video[0])
        for packet in [p for p in inside.demux(video=0) if p.size][2:]:
            packet.stream = stream
            outside.mux(packet)
    source = open_source(tmp_path / "b.mkv")
    count = len(list(source.frames()))
    assert 1.8 * count < 38 and f"{38 - count} of 38 frames could not be decoded" in source.problems[0]


def test_a_picture_that_starts_late_has_lost_nothing(tmp_path):
    for suffix, codecs in (("mkv", ("libx264", "aac")), ("wmv", ("wmv2", "mp3"))):
        path = write_movie(tmp_path / f"a.{suffix}", np.arange(20) / 25 + 1.0, codec=codecs[0], sound=tone(2, 44_100),
                           sound_rate=44_100, sound_codec=codecs[1])
        source = open_source(path)
        assert len(list(source.frames())) == 20 and source.problems == []
