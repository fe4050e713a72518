"""`diffsal prepare` on synthetic copies: archives, frames, sound, samples to fixations, fixations to maps; resumed."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import tarfile
import threading
import time
import wave
import zipfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import cv2
import numpy as np
import pytest

from diffsal.data.databases import DATASETS, synthetic
from diffsal.data.map_files import read_fixations, read_map
from diffsal.data.preparation import archives
from diffsal.data.preparation import prepare as preparation
from diffsal.data.preparation.archives import extract
from diffsal.data.preparation.prepare import Preparation, prepare
from diffsal.data.preparation.samples import Recording, by_dispersion, by_velocity, fixations, read_samples
from diffsal.data.truth import Sigma
from diffsal.data.validation import validate
from diffsal.errors import InputError
from tests.commands import outcome
from tests.movies import tone, write_movie


def stamps(root):
    return {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


def hidden(root):
    return [p.name for p in root.rglob(".*")]


# --- archives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_a_download_of_archives_is_prepared_once_and_stays(name, tmp_path):
    whole = synthetic.write(name, tmp_path / "whole")
    root = tmp_path / "root"
    root.mkdir()
    for number, folder in enumerate(sorted(whole.iterdir())):
        kind = ("zip", "gztar", "tar")[number % 3]
        shutil.make_archive(str(root / folder.name), kind, whole, folder.name)
    prepared = prepare(name, root, workers=2)
    assert prepared.problems == [] and prepared.made["files out of archives"] == len(stamps(whole))
    assert validate(name, root, partial=True).problems == [] and hidden(root) == []
    before = stamps(root)
    assert not prepare(name, root).made and stamps(root) == before


def test_extraction_goes_on_where_it_stopped(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("maps/1.png", "maps/2.png", "__MACOSX/maps/._1.png"):
            file.writestr(name, b"0123456789")
    assert extract(tmp_path / "a.zip") == 2 and not (tmp_path / "__MACOSX").exists()
    (tmp_path / "maps/1.png").write_bytes(b"0123")  # of another size: not whole
    before = (tmp_path / "maps/2.png").stat().st_mtime_ns
    notes: list[str] = []
    assert extract(tmp_path / "a.zip", note=notes.append) == 1
    assert (tmp_path / "maps/1.png").read_bytes() == b"0123456789"
    assert (tmp_path / "maps/1.png.old").read_bytes() == b"0123"  # it may have been edited
    assert len(notes) == 1 and notes[0].endswith("of another size, is now 1.png.old")
    assert (tmp_path / "maps/2.png").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["../evil", "/evil", "maps/../../evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_entries_that_leave_the_folder_are_refused(tmp_path, name, kind):
    folder = tmp_path / "data"
    folder.mkdir()
    archive = folder / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("fine.png", b"x")
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is, not as this system would write it
            file.writestr(info, b"x")
    else:
        with tarfile.open(archive, "w") as file:
            info = tarfile.TarInfo(name)
            info.size = 1
            file.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(InputError, match=rf"a\.{kind}: its entry .*outside the folder"):
        extract(archive)
    assert sorted(p.name for p in tmp_path.rglob("*")) == [f"a.{kind}", "data"]


@pytest.mark.parametrize("names", [("maps/1.png", "maps/1.png"), ("1.png", "./1.png"), ("a.tar", "b")])
def test_entries_that_would_overwrite_each_other_or_the_archive_are_refused(tmp_path, names):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            file.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(InputError, match=r"a\.tar: its entry .* is there twice, or is called as the archive"):
        extract(tmp_path / "a.tar")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


def test_links_damage_and_other_kinds_of_archives(tmp_path):
    with tarfile.open(tmp_path / "link.tar", "w") as file:
        info = tarfile.TarInfo("maps")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        file.addfile(info)
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as file:
        info = zipfile.ZipInfo("maps")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc")
    for name in ("link.tar", "link.zip"):
        with pytest.raises(InputError, match="'maps' is"):
            extract(tmp_path / name)
    random = np.random.default_rng(0).bytes(50_000)
    with tarfile.open(tmp_path / "cut.tar.gz", "w:gz") as file:
        info = tarfile.TarInfo("a.bin")
        info.size = len(random)
        file.addfile(info, io.BytesIO(random))
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "cut.tar.gz").read_bytes()[:30_000])
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    for name in ("cut.tar.gz", "cut.zip"):
        with pytest.raises(InputError, match="damaged or cut short"):
            extract(tmp_path / name)
    assert not (tmp_path / "a.bin").exists() and hidden(tmp_path) == []
    only = tmp_path / "only"
    only.mkdir()
    (only / "annotation.rar").write_bytes(b"Rar!")
    with pytest.raises(InputError, match=r"extract annotation\.rar there first"):
        prepare("dhf1k", only)


# --- frames and sound -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "variant"), [("dhf1k", "video"), ("avad", "videos")])
def test_frames_of_video_files(name, variant, tmp_path):
    root = synthetic.write(name, tmp_path, variant)
    before = [np.stack([f.image for f in clip]) for clip in DATASETS[name](root, "all")]
    assert not prepare(name, root).made  # video files are read as they are
    prepared = prepare(name, root, Preparation(frames=True, picture_format="png"))
    assert prepared.problems == [] and prepared.made["frames"] == 18 * len(before)
    clips = DATASETS[name](root, "all")
    assert all(clip.video.is_dir() for clip in clips) and hidden(root) == []
    for clip, images in zip(clips, before, strict=True):
        np.testing.assert_array_equal(clip.frames(range(18)), images)
        assert clip.truth is None or clip.annotated == list(range(18))
    assert validate(name, root, partial=True).problems == []
    assert not prepare(name, root, Preparation(frames=True)).made


def test_sound_of_a_video_file_stands_on_the_clock_of_its_frames(tmp_path):
    root = synthetic.write("diem", tmp_path, "videos")
    shutil.rmtree(root / "video_audio")
    for path in (root / "videos/DIEM").iterdir():
        path.unlink()
    for number, rate in ((1, Fraction("14.99985")), (2, 25), (3, Fraction("29.97003"))):  # a click at 0.5 s
        write_movie(root / f"videos/DIEM/clip_{number}.mkv", num_frames=18, frame_rate=rate, sound_codec="pcm_s16le",
                    sound=tone(1.0, 48_000, 0.3), sound_rate=48_000, sound_start=0.2)
    prepared = prepare("diem", root, Preparation(frames=True))
    assert prepared.problems == [] and prepared.made == {"sounds": 3, "frames": 54}
    with wave.open(str(root / "video_audio/DIEM/clip_1/clip_1.wav")) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, 48_000)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert np.flatnonzero(np.abs(samples) > 3000)[0] / 48_000 == pytest.approx(0.5, abs=2e-3)
    assert validate("diem", root, partial=True).problems == []


def test_a_run_that_was_stopped_leaves_nothing_half_done_and_goes_on(tmp_path, monkeypatch):
    root = synthetic.write("dhf1k", tmp_path, "video")
    write, written, lock = preparation.write_picture, [], threading.Lock()

    def stops(path, image, **options):
        with lock:
            written.append(path)
            if len(written) > 30:  # in the middle of the second clip
                raise KeyboardInterrupt
        write(path, image)

    monkeypatch.setattr(preparation, "write_picture", stops)
    with pytest.raises(KeyboardInterrupt):
        prepare("dhf1k", root, Preparation(frames=True), workers=1)
    assert hidden(root) == []
    assert [p.parent.name for p in sorted(root.glob("annotation/*/images"))] == ["0001"]
    monkeypatch.setattr(preparation, "write_picture", write)
    assert prepare("dhf1k", root, Preparation(frames=True), workers=1).made == {"frames": 4 * 18}


def test_a_long_piece_ends_soon_after_a_stop(tmp_path, monkeypatch):
    root, write = synthetic.write("dhf1k", tmp_path, "video"), preparation.write_picture

    def slow(path, image, **options):
        if "0001" not in str(path.parent):
            time.sleep(0.1)
        write(path, image)

    def stop_after_the_first(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "write_picture", slow)
    with pytest.raises(KeyboardInterrupt):
        prepare("dhf1k", root, Preparation(frames=True), workers=1, on_job=stop_after_the_first)
    assert [p.parent.name for p in root.glob("annotation/*/images")] == ["0001"] and hidden(root) == []


def test_one_broken_video_does_not_stop_the_others(tmp_path):
    root = synthetic.write("dhf1k", tmp_path, "video")
    (root / "video/001.AVI").write_bytes(b"nothing")
    prepared = prepare("dhf1k", root, Preparation(frames=True))
    assert prepared.made == {"frames": 4 * 18}
    assert len(prepared.problems) == 1 and "001.AVI: not a video" in prepared.problems[0]


# --- maps -----------------------------------------------------------------------------------------------------------


def test_maps_of_fixations_with_the_published_blur(tmp_path):
    root = synthetic.write("ucf_sports", tmp_path)
    folder = root / "testing/Walk-Front-019"
    kept = sorted(folder.glob("maps/*.png"))[1:]
    for path in kept[:-1]:
        path.unlink()
    (folder / "maps/Walk-Front_019_001.png").unlink()
    alone = np.zeros((201, 201), np.uint8)
    alone[100, 100] = 255
    cv2.imwrite(str(folder / "fixation/Walk-Front_019_001.png"), alone)
    cv2.imwrite(str(folder / "fixation/Walk-Front_019_002.png"), alone * 0)
    prepared = prepare("ucf_sports", root)
    assert prepared.made == {"maps": 16} and len(prepared.problems) == 1 and "_002.png: nobody" in prepared.problems[0]
    drawn = read_map(folder / "maps/Walk-Front_019_001.png")
    y = np.arange(201) - 100
    np.testing.assert_allclose(drawn[100], np.exp(-(y**2) / (2 * 20**2)), atol=0.01)  # σ is 20 pixels
    np.testing.assert_allclose(drawn[:, 100], drawn[100], atol=1e-6)


def test_maps_of_ones_own_gaze_with_sigma_in_each_unit(tmp_path):
    root = synthetic.write("gaze", tmp_path)
    assert prepare("gaze", root).made == {"maps": 2 * 18 + 4}
    drawn = read_map(root / "maps/play/ball/000009.png")
    clip = DATASETS["gaze"](root, "play")[0]
    np.testing.assert_allclose(drawn, clip.saliency_map(9), atol=1 / 255)
    assert (read_fixations(root / "fixations/play/ball/000009.png") == clip.fixations(9)).all()
    assert (root / "maps/stills/001.png").is_file() and not prepare("gaze", root).made
    results = []
    for text in ("6.4px", "0.1w", "0.64deg"):
        settings = Preparation(sigma=Sigma.parse(text), recording=Recording(pixels_per_degree=10), force=True)
        assert prepare("gaze", root, settings).problems == []
        results.append(cv2.imread(str(root / "maps/play/ball/000009.png"), cv2.IMREAD_UNCHANGED))
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()
    assert results[0].mean() > drawn.mean() * 255 * 1.5  # a wider blur
    problems = prepare("gaze", root, Preparation(sigma=Sigma.parse("1deg"), force=True)).problems
    assert len(problems) == 6 and "--pixels-per-degree" in problems[0]


@pytest.mark.parametrize("text", ["12", "px", "-1px", "0w", "1cm", "nanpx", ""])
def test_a_sigma_that_is_none(text):
    with pytest.raises(InputError, match=r"12\.74px"):
        Sigma.parse(text)


# --- samples --------------------------------------------------------------------------------------------------------


def scanpath(rate, noise=0.02):
    """Samples of four fixations of 300 ms with saccades of 40 ms between them, in degrees: t, x, y and the truth."""
    rng, places = np.random.default_rng(1), [(5.0, 5.0), (12.0, 6.0), (12.0, 1.5), (3.0, 9.0)]
    t = np.arange(0, 1.32, 1 / rate)
    key_times, key_places = [], []
    for i, place in enumerate(places):
        key_times += [i * 0.34, i * 0.34 + 0.3]
        key_places += [place, place]
    x, y = (np.interp(t, key_times, [p[axis] for p in key_places]) + rng.normal(0, noise, len(t)) for axis in (0, 1))
    return t, x, y, places


@pytest.mark.parametrize("find", [by_velocity, by_dispersion])
@pytest.mark.parametrize("rate", [60, 250, 1000])
def test_fixations_are_found_where_and_when_they_were(find, rate):
    t, x, y, places = scanpath(rate)
    found = find(t, x, y)
    assert len(found) == 4
    tolerance = 0.02 + 1.5 / rate
    for i, (fixation, place) in enumerate(zip(found, places, strict=True)):
        assert (fixation.x, fixation.y) == pytest.approx(place, abs=0.2)
        assert fixation.start == pytest.approx(i * 0.34, abs=tolerance)
        assert fixation.start + fixation.duration == pytest.approx(i * 0.34 + 0.3, abs=tolerance)


def test_blinks_short_and_long(find=by_velocity):
    t = np.arange(0, 1, 0.004)
    x = np.full(len(t), 3.0)
    x[50:60] = np.nan  # 40 ms: one fixation
    assert len(find(t, x, x)) == 1
    x[150:180] = np.nan  # 120 ms: another one
    found = find(t, x, x)
    assert [f.start for f in found] == pytest.approx([0, 0.72]) and found[0].duration == pytest.approx(0.6)
    assert find(t, x * np.nan, x) == [] and find(t[:1], x[:1], x[:1]) == [] and find(t[:0], x[:0], x[:0]) == []
    for lost in (by_velocity, by_dispersion):
        assert lost(t[:10], x[:10], x[:10]) == []  # 40 ms are no fixation


def write_samples(path, scale=(1.0, 1.0), offset=(0.0, 0.0), clock="t_ms", observers=("b", "a")):
    path.parent.mkdir(parents=True, exist_ok=True)
    t, x, y, _ = scanpath(250)
    lines = [f"observer,{clock},x,y"]
    for name in observers:
        lines += [f"{name},{a * (1000 if clock == 't_ms' else 1)},{b * scale[0] + offset[0]},{c * scale[1] + offset[1]}"
                  for a, b, c in zip(t, x, y, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_pixels_degrees_fractions_and_a_picture_somewhere_on_the_screen_say_the_same(tmp_path):
    path, degree = tmp_path / "a.csv", 40.0  # the picture is 640x480: 16 by 12 degrees
    same = [
        (Recording("px", degree), (degree, degree), (0, 0)),
        (Recording("px", degree, (100, 50, 640, 480)), (degree, degree), (100, 50)),
        (Recording("px", 2 * degree, (0, 0, 1280, 960)), (2 * degree, 2 * degree), (0, 0)),  # shown enlarged
        (Recording("deg", degree), (1, 1), (-8, -6)),
        (Recording("fraction", degree), (1 / 16, 1 / 12), (0, 0)),
    ]
    results = []
    for recording, scale, offset in same:
        found = fixations(write_samples(path, scale, offset), recording, 640, 480)
        assert found.outside == 0 and found.lost == {}
        results.append(np.array(found.rows))
    assert results[0].shape == (8, 5) and results[0][:4, 0].tolist() == [1] * 4
    np.testing.assert_allclose(results[0][:4, 3] * 16, [5, 12, 12, 3], atol=0.2)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-9)
    write_samples(path, (degree, degree))
    found = fixations(path, Recording("px", degree, (0, 0, 250, 480)), 640, 480)
    assert len(found.rows) < 8 and found.outside > 0


def test_tables_of_samples_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.csv"
    for text, message in (("observer,x,y\n", "no column t_s"), ("observer,t_s,x,y\n", "holds no sample"),
                          ("observer,t_s,x,y\n1,soon,2,3\n", "line 2: its t_s 'soon' is no number"),
                          ("observer,t_s,x,y\n1,nan,2,3\n", "line 2: its t_s 'nan' is no time")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_samples(path)
    path.write_text("observer,t_s,x,y\n10,0.1,1,1\n2,0.2,,\n10,0.0,.,nan\n10,0.1,5,5\n")
    samples = read_samples(path)
    path.write_text(path.read_text().replace(",", "\t"))
    assert read_samples(path).keys() == samples.keys()
    assert list(samples) == ["2", "10"] and samples["10"][:, 0].tolist() == [0, 0.1] and np.isnan(samples["2"][0, 1])
    for settings in ({"units": "cm"}, {"algorithm": "guess"}, {"pixels_per_degree": 0.0}, {"shown_at": (0, 0, 0, 9)}):
        with pytest.raises(InputError, match="expected"):
            Recording(**settings)


def test_ones_own_eye_tracker_from_samples_to_maps_by_the_command(tmp_path, capsys):
    root = synthetic.write("gaze", tmp_path)
    shutil.rmtree(root / "gaze")
    degree = 4.0  # 64x48 pixels are 16 by 12 degrees
    for name in ("play/ball", "play/kite", "sketches/001", "stills/001", "stills/002"):
        write_samples(root / f"samples/{name}.csv", (degree, degree))
    command = ["prepare", "gaze", "--data", str(root), "--pixels-per-degree", "4", "--sigma", "1deg"]
    for arguments, code, words in (
        (command[:4], 1, "pixels per degree"), (command, 0, "4 tables of fixations"), (command, 0, "nothing had to be"),
        ([*command, "--shown-at", "1,2"], 2, "four numbers"), ([*command, "--units", "mm"], 1, "expected one of px"),
    ):
        ended, out, err = outcome(capsys, *arguments)
        assert ended == code and words in out + err, (arguments, out, err)
    (root / "images/sketches/002.jpg").unlink()
    assert validate("gaze", root).problems == []
    clip = DATASETS["gaze"](root, "play")[0]
    assert len(clip.points(5)) == 2 and clip.points(5)[0].tolist() == pytest.approx([20, 20], abs=1)
    picture = DATASETS["gaze"](root, "stills")[0]
    assert len(picture.points(0)) == 6  # two observers; the fixation that was there already is left out
    assert (root / "maps/play/kite/000000.png").is_file()
    os.rename(root / "samples/play/kite.csv", root / "samples/play/kitten.csv")
    problems = prepare("gaze", root, Preparation(recording=Recording(pixels_per_degree=degree))).problems
    assert len(problems) == 1 and "kitten: no such video" in problems[0]


# --- what strangers made, and what is the user's own ----------------------------------------------------------------


def tar_of(path, header: bytes, repeat: int, mode="wb", opener=gzip.open):
    with opener(path, mode) as file:
        file.write(header)
        for _ in range(repeat):
            file.write(bytes(1 << 20))
    return path


@pytest.mark.parametrize(("ending", "opener"), [("tar.gz", gzip.open), ("tar.bz2", bz2.open), ("tar.xz", lzma.open),
                                                ("tar", open)])
def test_bombs_are_found_before_the_first_file_is_written(tmp_path, monkeypatch, ending, opener):
    monkeypatch.setattr(archives, "SMALL_BYTES", 1 << 20)
    small, large = tarfile.TarInfo("small.png"), tarfile.TarInfo("large.png")
    small.size, large.size = 0, 24 << 20
    path = tmp_path / f"a.{ending}"
    tar_of(path, small.tobuf() + large.tobuf(), 24, opener=opener)
    if ending != "tar":
        with pytest.raises(InputError, match=r"a\.tar.*bytes would become more than 25,165,824 in 2 files"):
            extract(path)
    claims = tarfile.TarInfo("claims.png")
    claims.size = 1 << 60
    tar_of(path, small.tobuf() + claims.tobuf(), 1, opener=opener)
    with pytest.raises(InputError, match=r"a\.tar.*needs [\d.]+ GB"):
        extract(path)
    names = tarfile.TarInfo("././@LongLink")  # a name of 4 GB
    names.type, names.size = tarfile.GNUTYPE_LONGNAME, 4 << 30
    tar_of(path, names.tobuf(), 1, opener=opener)
    with pytest.raises(InputError, match="a header is too long"):
        extract(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_zip_bombs_and_entries_that_lie(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SMALL_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(16 << 20))
    with pytest.raises(InputError, match="bytes would become more than"):
        extract(tmp_path / "a.zip")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for place in (22, data.index(b"PK\x01\x02") + 24):
        data[place : place + 4] = (1000).to_bytes(4, "little")  # 16 MB that are called 1,000 bytes
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zip: damaged"):
        extract(tmp_path / "a.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_tar_whose_second_half_is_damaged_is_no_whole_one(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name in ("a.png", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = 600
            file.addfile(info, io.BytesIO(bytes(600)))
    data = bytearray((tmp_path / "a.tar").read_bytes())
    for damaged in (data[:1536], data[:1536] + b"x" * 512 + data[2048:]):
        (tmp_path / "a.tar").write_bytes(damaged)
        with pytest.raises(InputError, match="its end is missing"):
            extract(tmp_path / "a.tar")


def test_two_archives_with_a_common_entry_leave_one_of_the_two_whole(tmp_path):
    for name, letter in (("a.zip", b"a"), ("b.zip", b"b")):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("maps/1.png", letter * 3_000_000)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: extract(tmp_path / n), ("a.zip", "b.zip")))
    assert len(set((tmp_path / "maps/1.png").read_bytes())) == 1 and hidden(tmp_path) == []


def test_a_table_that_somebody_edited_is_kept_and_its_maps_are_drawn_anew(tmp_path):
    root, degree = synthetic.write("gaze", tmp_path), 4.0
    shutil.rmtree(root / "gaze")
    for name in ("play/ball", "play/kite", "sketches/001", "stills/001"):
        write_samples(root / f"samples/{name}.csv", (degree, degree))
    settings = Preparation(recording=Recording(pixels_per_degree=degree))
    assert prepare("gaze", root, settings).problems == []
    table, drawn = root / "gaze/play/ball.csv", root / "maps/play/ball/000000.png"
    made, before = table.read_bytes(), drawn.read_bytes()
    edited = b"observer,start_s,duration_s,x,y\n1,0,9,.9,.9\n"
    table.write_bytes(edited)
    os.utime(table, ns=(time.time_ns() + 10**9,) * 2)
    assert prepare("gaze", root, settings).made == {"maps": 18} and table.read_bytes() == edited
    assert drawn.read_bytes() != before
    again = prepare("gaze", root, Preparation(recording=settings.recording, force=True))
    assert table.read_bytes() == made and (root / "gaze/play/ball.csv.old").read_bytes() == edited
    assert [n for n in again.notes if "ball.csv" in n and "is now ball.csv.old" in n] and drawn.read_bytes() == before
    assert [n for n in again.notes if "kite" in n] == []  # nobody has edited it


def test_published_maps_that_are_drawn_anew_are_moved_aside(tmp_path):
    root = synthetic.write("ucf_sports", tmp_path)
    folder = root / "testing/Walk-Front-019"
    before = {p.name: p.read_bytes() for p in (folder / "maps").iterdir()}
    for _ in range(2):
        assert prepare("ucf_sports", root, Preparation(force=True)).problems == []
    assert before.items() <= {p.name: p.read_bytes() for p in (folder / "maps.old").iterdir()}.items()
    assert all((folder / "maps" / name).read_bytes() != data for name, data in before.items())


@pytest.mark.parametrize("codec", ["mjpeg", "msmpeg4v2", "huffyuv"])
def test_a_header_that_claims_a_billion_frames_is_not_believed(tmp_path, codec):
    root = tmp_path
    pixels = {"mjpeg": "yuvj420p", "huffyuv": "yuv422p"}.get(codec, "yuv420p")
    (root / "videos/s").mkdir(parents=True)
    path = write_movie(root / "videos/s/a.avi", num_frames=20, codec=codec, pixels=pixels)
    data = bytearray(path.read_bytes())
    for name, place in ((b"avih", 24), (b"strh", 40)):
        at = data.index(name) + place
        data[at : at + 4] = (10**9).to_bytes(4, "little")
    path.write_bytes(data)
    (root / "gaze/s").mkdir(parents=True)
    (root / "gaze/s/a.csv").write_text("observer,start_s,duration_s,x,y\n1,0,9,.5,.5\n")
    assert DATASETS["gaze"](root)[0].num_frames == 20
    assert prepare("gaze", root).made == {"maps": 20}
    problems = validate("gaze", root).problems
    assert len(problems) == 1 and "a.avi: ends at 0.80 s of" in problems[0]


def test_names_with_brackets_and_names_that_begin_alike(tmp_path):
    (tmp_path / "videos/yt").mkdir(parents=True)
    for name, size in (("Song [dQw4w9WgXcQ]", (48, 64)), ("plain", (48, 64)), ("plain.hires", (96, 128)),
                       ("[ab]", (48, 64)), ("a", (96, 128))):
        write_movie(tmp_path / f"videos/yt/{name}.mp4", num_frames=3, size=size)
        if size == (48, 64):
            write_samples(tmp_path / f"samples/yt/{name}.csv", (4.0, 4.0))
    prepare("gaze", tmp_path, Preparation(recording=Recording(pixels_per_degree=4.0)))
    tables = sorted((tmp_path / "gaze/yt").iterdir())
    assert [p.stem for p in tables] == ["Song [dQw4w9WgXcQ]", "[ab]", "plain"]
    assert len({p.read_bytes() for p in tables}) == 1  # all on pictures of one size: the same fractions
