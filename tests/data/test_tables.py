"""Tables of samples and fixations as programs export them: the same numbers, or one line that names file and row."""

import gzip

import numpy as np
import pytest

from diffsal.data import tables
from diffsal.data.databases import gaze
from diffsal.data.preparation.samples import Recording, fixations, read_samples
from diffsal.errors import InputError

ROWS = [("1", 0.0, 48.5, 32.25), ("1", 0.004, 48.75, 32.5), ("2", 0.0, 10.0, 12.0)]


def text(separator=",", decimal=".", header="observer,t_s,x,y", newline="\n", quote=""):
    def cell(value):
        return f"{quote}{str(value).replace('.', decimal)}{quote}"

    lines = [separator.join(f"{quote}{name}{quote}" for name in header.split(","))]
    lines += [separator.join(cell(v) for v in row) for row in ROWS]
    return newline.join(lines) + newline


@pytest.mark.parametrize(("name", "data"), [
    ("plain.csv", text().encode()),
    ("semicolons with decimal commas.csv", text(";", ",").encode()),
    ("tabs with decimal commas.tsv", text("\t", ",").encode()),
    ("quoted decimal commas.csv", text(",", ",", quote='"').encode()),
    ("bars.txt", text("|").encode()),
    ("spaces.csv", text(", ").encode()),
    ("CAPITALS.CSV", text(header="Observer,T_s,X,Y").encode()),
    ("mark.csv", b"\xef\xbb\xbf" + text().encode()),
    ("windows.csv", text(newline="\r\n").encode()),
    ("old mac.csv", text(newline="\r").encode()),
    ("utf-16 with its mark.tsv", text("\t").encode("utf-16")),
    ("utf-16 big.tsv", b"\xfe\xff" + text("\t").encode("utf-16-be")),
    ("utf-16 without mark.tsv", text("\t").encode("utf-16-le")),
    ("compressed.csv.gz", gzip.compress(text().encode(), mtime=0)),
    ("blank lines.csv", b"\n\n" + text().replace("\n", "\n\n").encode()),
    ("comments.csv", ("# made by X, version 3\n" + text().replace("\n", "\n# recalibrated\n", 2)).encode()),
    ("a comment of names.tsv", b"#" + text("\t").encode()),
    ("title and date.csv", ("Gaze; all subjects\n\n30.11.2026\n" + text(";", ",")).encode()),
    ("a spreadsheet's.csv", ("sep=;\n" + text(";", ",")).encode()),
    ("columns of text.txt", "\n".join("  " + line for line in text("   ").splitlines()).encode()),
    ("utf-32.csv", text().encode("utf-32")),
    ("units in brackets.csv", text(header="Observer,T [ms],X,Y").replace("0.004", "4").encode()),
    ("microseconds.csv", text(header="observer,t_us,x,y").replace("0.004", "4000").encode()),
    ("nanoseconds.csv", text(header="observer,t_ns,x,y").replace("0.004", "4000000").encode()),
    ("a unit in Greek.csv", text(header="observer,t [µs],x [px],y [px]").replace("0.004", "4000").encode()),
    ("a unit in Greek and Latin-1.csv", text(header="observer,t (µs),x,y").replace("0.004", "4000").encode("latin-1")),
    ("units after a stroke.csv", text(header="observer,t / s,x / px,y / px").encode()),
    ("units as words.csv", text(header="observer,t [milliseconds],x,y").replace("0.004", "4").encode()),
    ("pixels as words.csv", text(header="observer,t_s,X [pixels],Y_pixel").encode()),
    ("two marks.csv", b"\xef\xbb\xbf\xef\xbb\xbf" + text().encode()),
    ("time of day.csv", text().replace("0.004", "0:00:00.004").encode()),
    ("single quotes.csv", text(header="'observer','t_s','x','y'").encode()),
    ("separators at the end.csv", text().replace("\n", ",\n").encode()),
    ("the end of DOS.csv", text().encode() + b"\x1a"),
    ("more columns.csv", "\n".join(f"{line},{'né' if i else 'name'}" for i, line in enumerate(
        text().splitlines())).encode("latin-1")),
])
def test_any_export_gives_the_same_numbers(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    samples = read_samples(path)
    assert {k: v.tolist() for k, v in samples.items()} == {
        "1": [[0, 48.5, 32.25], [0.004, 48.75, 32.5]], "2": [[0, 10, 12]]}


@pytest.mark.parametrize(("data", "message"), [
    (b"observer,t_s,x,y\n1,0.0,5,5\n1,0.1,5\n", "line 3 has 3 cells, expected 4"),
    (b"observer,t_s,x,y\n1,0,004,48,5,32,25\n", "line 2 has 7 cells, expected 4 .decimal commas need semicolons"),
    (b"observer,t_s,x,y\n1,0.0,5,five\n", "line 2: its y 'five' is no number"),
    (b"observer,t_s,x,y\n1,inf,5,5\n", "line 2: its t_s 'inf' is no time"),
    (b"observer,t_s,x,y\n1,1_000,5,5\n", "line 2: its t_s '1_000' is no number"),
    (b"observer,t_s,x,y\n1,0.0," + b"9" * 200_000 + b",1\n", "field larger than field limit"),
    (b"x" * 3_000_000, "line 1 is longer than 1,048,576 characters"),
    (b"observer,t_s,x,y\n1,0.0,\0\0\0\0,5\n" + b"1,0.0,5,5\n" * 50, "line 2 holds bytes that are no text"),
    (b"", "the file is empty"),
    (b"\xff\xfe", "the file is empty"),
    (b"exported by X\nobserver,t_s,x\n1,0.0,5\n", "no column y: expected observer,"),
    (b"observer,t_s,x,y,x\n1,0.0,5,5,9\n", "two columns are called x"),
    (b"observer t_s x y\n1 1 0.0 5 5\n", "line 2 has 5 cells, expected 4 .each column needs a name"),  # as R writes
    (b"observer,t_s,x,y\n1,0.0,5,5\n,0.1,5,5\n", "line 3: its observer is empty"),
    (b"observer,t_s,x,y\n#1,0.0,5,5\n", "line 2 begins with '#1': remove it if it is a comment"),
    (b'observer,t_ms,x,y\n1,"1,000",5.5,5\n', "line 2: its t_ms '1,000' has a comma where other cells have a decimal"),
    (b"observer;t_ms;x;y\n1;1.000;5,5;5\n", "line 2: its t_ms '1.000' has a point where other cells have a decimal"),
    (b'observer,t_s,x,y,note\n1,0.0,5,5,"wide\n1,0.1,5,5,a\n1,0.2,5,5,b\n', "holds whole rows; a quote before it"),
    (b"observer,t_s,x,y\n", "holds no sample"),
    (b"observer,t_s,x [deg],y [deg]\n1,0.0,5,5\n", "no column x, y: expected observer,.*x or x_px"),
    (b"# Subject:\tP1\nTime\tType\tTrial\tL POR X [px]\tL POR Y [px]\n1000\tSMP\t1\t5\t4\n",  # SMI's BeGaze
     "no column observer, t_s, x, y: .*; there are time, type, trial, l_por_x_px, l_por_y_px$"),
    ("Recording timestamp [µs]\tParticipant name\tGaze point X [DACS px]\n0\tP1\t500\n".encode("utf-16"),  # Tobii
     "; there are recording_timestamp_us, participant_name, gaze_point_x_dacs_px$"),
    (b"PK\x03\x04\x14\0\x06\0\x08\0\0\0", "is a workbook of Excel or an archive, and no text; export the table as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "is a workbook of Excel"),
])
def test_what_cannot_be_read_names_file_row_and_cause(tmp_path, data, message):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.csv: .*{message}"):
        read_samples(path)


def test_names_that_differ_in_a_letter_far_below_stay_two(tmp_path):
    """Bytes that are no UTF-8 are Latin-1's wherever they come, and no two names become one."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"observer,t_s,x,y\n" + b"Li,1,2,3\n" * 900 + "Müller,1,5,5\nMöller,1,6,6\n".encode("latin-1"))
    assert {k: v.tolist() for k, v in read_samples(path).items()} == {
        "Li": [[1, 2, 3]], "Müller": [[1, 5, 5]], "Möller": [[1, 6, 6]]}


def test_a_compressed_bomb_ends_early(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "SMALL_BYTES", 1 << 16)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"image,observer,index,x,y\n" + b"p,1,1,.5,.5\n" * 50_000))
    with pytest.raises(InputError, match=r"a\.csv\.gz: holds more than"):
        list(tables.read_rows(path, gaze.PICTURE_COLUMNS))


@pytest.mark.parametrize(("lost", "word"), [
    ("", None), ("#N/A", None), ("-1.#IND", None), ("<NA>", None), ("-nan(ind)", None),
    ("NaN", None), (".", None), ("missing", None), ("0", "0, 0"), ("-1", "-1, -1"), ("1e8", "1e+08, 1e+08"),
    ("-32768", "-32768, -32768"), ("-999", "-999, -999"), ("9999", "9999, 9999"),
])
def test_lost_samples_of_every_tracker_are_left_out_and_told(tmp_path, lost, word):
    path = tmp_path / "a.csv"
    path.write_text("observer,t_ms,x,y\n" + "".join(
        f"1,{t},{lost},{lost}\n" if 500 <= t < 900 else f"1,{t},48,32\n" for t in range(0, 2000, 4)))
    found = fixations(path, Recording(pixels_per_degree=4), 96, 64)
    assert [(row[0], round(row[1], 3), round(row[2], 3), row[3], row[4]) for row in found.rows] == [
        (1, 0.0, 0.5, 0.5, 0.5), (1, 0.9, 1.1, 0.5, 0.5)]
    assert found.outside == 0 and found.lost == ({} if word is None else {word: 100})


def test_samples_at_the_time_of_another_are_left_out_and_counted(tmp_path):
    """Two trials of one observer, each from time 0; another observer's times are his own."""
    path = tmp_path / "a.csv"
    trial = [f"1,{t},48,32\n" for t in range(0, 800, 4)]
    other = [f"1,{t},20,10\n" for t in range(0, 400, 4)]
    path.write_text("observer,t_ms,x,y\n" + "".join([*trial, *other, *(row.replace("1,", "2,", 1) for row in trial)]))
    found = fixations(path, Recording(pixels_per_degree=4), 96, 64)
    assert found.repeated == 100 and [(row[0], row[3], row[4]) for row in found.rows] == [(1, 0.5, 0.5), (2, 0.5, 0.5)]


def test_a_fixation_that_ends_before_it_begins_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("observer,start_s,duration_s,x,y\n1,0.5,0.25,0.5,0.5\n1,1.5,-0.25,0.5,0.5\n")
    with pytest.raises(InputError, match=r"a\.csv: line 3: its duration -0\.25 s is negative"):
        gaze.read_clip(path, path)


def test_the_middle_of_the_picture_in_degrees_is_no_lost_sample(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("observer,t_ms,x,y\n" + "".join(f"1,{t},0,0\n" for t in range(0, 400, 4)))
    found = fixations(path, Recording("deg", 4), 96, 64)
    assert found.lost == {} and [row[3:] for row in found.rows] == [(0.5, 0.5)]
    assert np.isclose(found.rows[0][2], 0.4)


@pytest.mark.parametrize(("names", "numbers"), [
    (["Sub4", "Sub10", "Sub4"], {"Sub10": 1, "Sub4": 2}), (["7", "1000", "7"], {"7": 7, "1000": 1000}),
    (["1.1", "1.2", "2.1"], {"1.1": 1, "1.2": 2, "2.1": 3}),  # person and session
    ([f"2026113000000000{n}" for n in (1, 2)], {"20261130000000001": 1, "20261130000000002": 2}),
    (["P1", "10", "9"], {"9": 1, "10": 2, "P1": 3}), (["1", "nan"], {"1": 1, "nan": 2}), ([], {}),
])
def test_observers_may_have_names(names, numbers):
    assert tables.numbered(names) == numbers


def test_fixations_in_milliseconds_in_percent_and_lost(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("observer,Start (ms),Duration (ms),x,y\nP1,500,250,25%,50 %\nP1,900,100,NA,NA\n")
    truth = gaze.GazeTruth(path)
    assert truth.gaze.fixations[0].tolist() == [1, 0.5, 0.25, 0.25, 0.5] and truth.outside == 1
    path.write_text("observer,start_s,duration_s,x,y\nP1,nan,1,.5,.5\n")
    with pytest.raises(InputError, match=r"a\.csv: line 2: its start_s 'nan' is no time"):
        gaze.read_clip(path, path)


def test_places_of_fixations_with_their_unit(tmp_path):
    names = "Observer,Start [ms],Duration [ms],x,y,X [fraction],Y (fraction)"
    (tmp_path / "a.csv").write_text(f"{names}\n1,0,500,480,270,.25,.5\n")
    clip = gaze.read_clip(tmp_path / "a.csv", tmp_path / "a.csv")
    assert clip.fixations.tolist() == [[1, 0, 0.5, 0.25, 0.5]]
    (tmp_path / "a.csv").write_text("Observer,Start [ms],Duration [ms],x [px],y [px]\n1,0,9,480,270\n")
    with pytest.raises(InputError, match=r"no column x, y: .*x or x_fraction,.*; there are observer, .*, x_px, y_px$"):
        gaze.read_clip(tmp_path / "a.csv", tmp_path / "a.csv")


def test_pictures_that_a_table_calls_by_ending_and_folder_and_what_is_left_out(tmp_path):
    for folder in ("gaze", "images/web", "videos/play"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("web/p.png", "web/q.PNG", "web/none.png", "../videos/play/a.avi", "../videos/play/a.mp4"):
        (tmp_path / "images" / name).touch()
    table = tmp_path / "gaze/web.csv"
    table.write_text("image,observer,index,x,y\nweb\\p.png,1,1,.5,.25\nweb/q.PNG,1,1,.5,.75\ngone.png,1,1,.5,.5\n")
    assert [(clip.name, clip.fixations[0, 4]) for clip in gaze.read_set(tmp_path, "web")] == [("p", 0.25), ("q", 0.75)]
    pictures = tmp_path / "images/web"
    assert gaze.left_out(tmp_path, "web") == [
        f"{table}: 1 pictures of {pictures} have no fixation there (none); they are left out",
        f"{table}: 1 images with fixations are not in {pictures} (gone); they are left out"]
    assert gaze.left_out(tmp_path, "play") == [
        f"{tmp_path}/videos/play/a.mp4: is left out, a.avi has the same name; call one otherwise"]
    table.write_text("image,observer,index,x,y\na/p.png,1,1,.5,.25\nb/p.png,1,1,.5,.25\n")
    with pytest.raises(InputError, match=r"calls one picture a/p\.png and b/p\.png"):
        gaze.read_set(tmp_path, "web")
    table.write_text("image,observer,index,x,y\nother,1,1,.5,.25\n")
    with pytest.raises(InputError, match=r"its images .other …. are none of the pictures in"):
        gaze.read_set(tmp_path, "web")


def test_named_observers_of_a_video_and_of_pictures(tmp_path):
    for folder in ("videos/play", "gaze/play", "images/web"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "videos/play/a.mp4").touch()
    (tmp_path / "gaze/play/a.csv").write_text("observer,start_s,duration_s,x,y\nAnn,0,1,.5,.25\nBob,0,1,.5,.75\n")
    (tmp_path / "images/web/p.png").touch()
    (tmp_path / "gaze/web.csv").write_text("image,observer,index,x,y\np,Sub4,1,.5,.25\np,Sub2,1,.5,.75\n")
    assert [list(row[[0, 4]]) for row in gaze.read_set(tmp_path, "play")[0].fixations] == [[1, 0.25], [2, 0.75]]
    assert [list(row[[0, 4]]) for row in gaze.read_set(tmp_path, "web")[0].fixations] == [[2, 0.25], [1, 0.75]]
