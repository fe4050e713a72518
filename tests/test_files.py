"""What is written is there whole or not at all, whoever else writes there, whatever ends the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffsal.errors import InputError
from diffsal.files import GrowingFile, final_name, whole_file, whole_folder, write_text, write_whole


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_whole_or_not_there(tmp_path):
    write_whole(tmp_path / "deep/a.json", b"1")
    assert (tmp_path / "deep/a.json").read_bytes() == b"1" and names(tmp_path / "deep") == ["a.json"]
    with pytest.raises(RuntimeError), whole_file(tmp_path / "deep/a.json") as place:
        place.write_bytes(b"half")
        raise RuntimeError
    assert (tmp_path / "deep/a.json").read_bytes() == b"1" and names(tmp_path / "deep") == ["a.json"]


def test_a_library_that_replaces_what_it_writes(tmp_path):
    """As safetensors does: another inode at the same name, readable by its owner alone."""
    with whole_file(tmp_path / "a.bin") as place:
        (place.parent / "other").write_bytes(b"2")
        os.replace(place.parent / "other", place)
    assert (tmp_path / "a.bin").read_bytes() == b"2" and names(tmp_path) == ["a.bin"]


def test_the_usual_permissions(tmp_path):
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_a_folder_takes_the_place_of_another(tmp_path):
    for content in ("old", "new"):
        with whole_folder(tmp_path / "maps") as place:
            (place / content).touch()
    assert names(tmp_path / "maps") == ["new"] and names(tmp_path) == ["maps"]
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "maps") as place:
        raise RuntimeError
    assert names(tmp_path / "maps") == ["new"] and names(tmp_path) == ["maps"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError), whole_folder(tmp_path / "file"):
        pass
    assert names(tmp_path) == ["file", "maps"]


def test_links_that_are_planted_are_not_followed(tmp_path, monkeypatch):
    """Even one at the very name that will be drawn."""
    (tmp_path / "victim").mkdir()
    monkeypatch.setattr("os.urandom", bytes)
    (tmp_path / ".a.0000000000000000.partial").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a.txt", b"secret")
    assert names(tmp_path / "victim") == []


def test_a_link_to_a_folder_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "maps").symlink_to(tmp_path / "disk")
    with whole_folder(tmp_path / "maps") as place:
        (place / "0.png").touch()
    assert (tmp_path / "maps").is_symlink() and names(tmp_path / "disk") == ["0.png"]


def test_errors_name_the_file_not_its_private_place(tmp_path):
    with pytest.raises(OSError) as raised, whole_file(tmp_path / "a.txt") as place:
        (place / "x").write_bytes(b"")  # it is not there
    assert raised.value.filename == str(tmp_path / "a.txt" / "x")
    growing = GrowingFile(tmp_path / "b.mp4")
    assert final_name(str(growing.place)) == str(tmp_path / "b.mp4")
    assert final_name("a/.hidden/b.partial") == "a/.hidden/b.partial"
    growing.discard()


def test_long_names(tmp_path):
    name = "é" * 120 + ".png"  # 244 bytes
    write_whole(tmp_path / name, b"1")
    assert names(tmp_path) == [name]


WRITER = """
import sys, time
from pathlib import Path
from diffsal.files import whole_file, whole_folder
folder, mark, until = Path(sys.argv[1]), sys.argv[2], time.monotonic() + 1.5
while time.monotonic() < until:
    with whole_file(folder / "out") as place, place.open("w") as file:
        for _ in range(2000):
            file.write(mark)
    with whole_folder(folder / "maps") as place:
        for i in range(5):
            (place / f"{i}").write_text(mark)
"""


def test_processes_that_write_one_output_each_leave_it_whole(tmp_path):
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), mark]) for mark in "abc"]
    assert [p.wait(60) for p in started] == [0, 0, 0]
    assert (tmp_path / "out").read_text() in {mark * 2000 for mark in "abc"}
    assert {p.read_text() for p in (tmp_path / "maps").iterdir()} in ({"a"}, {"b"}, {"c"})
    assert names(tmp_path / "maps") == ["0", "1", "2", "3", "4"] and names(tmp_path) == ["maps", "out"]


STOPPED = """
import sys, time
from pathlib import Path
from diffsal.bars import interruptible
from diffsal.files import whole_file, whole_folder
with interruptible(), whole_file(Path(sys.argv[1]) / "out.mp4") as place, whole_folder(Path(sys.argv[1]) / "maps"):
    place.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_signals_leave_nothing_behind(tmp_path, number):
    """After a SIGKILL the next process that writes there tidies up; what a living one writes it leaves alone."""
    living = GrowingFile(tmp_path / "other.mp4")
    process = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path)], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    process.stdout.readline()
    process.send_signal(number)
    assert process.wait(20) != 0
    if number == signal.SIGKILL:
        assert len(names(tmp_path)) == 3
        subprocess.run([sys.executable, "-c", WRITER.replace("1.5", "0.01"), str(tmp_path), "a"], check=True)
        (tmp_path / "out").unlink()
        for path in (tmp_path / "maps").iterdir():
            path.unlink()
        (tmp_path / "maps").rmdir()
    assert names(tmp_path) == [living.folder.name]
    living.discard()


def test_a_process_started_with_nohup_does_not_mind_a_hangup(tmp_path):
    code = STOPPED.replace("time.sleep(60)", "time.sleep(2)").replace(
        "with interr", "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\nwith interr")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    assert process.wait(20) == 0 and names(tmp_path) == ["maps", "out.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="no pipes in the file system")
def test_devices_and_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(InputError, match="is a device or a pipe"):
            write_whole(place, b"1")
    assert names(tmp_path) == ["pipe"] and (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are UTF-8")
def test_names_that_are_not_utf_8_stand_in_texts(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    write_text(tmp_path / "a.json", json.dumps({"source": name}, ensure_ascii=False))
    assert os.fsencode(json.loads((tmp_path / "a.json").read_text())["source"]) == b"caf\xe9.mp4"
