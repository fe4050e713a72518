"""One record per item, whatever happens."""

from dataclasses import replace

import pytest

from diffsal.cluster.ledger import Ledger, Record
from diffsal.cluster.manifest import Item
from diffsal.errors import InputError


def items(count):
    return [Item(f"clip{i}", f"/v/clip{i}.mp4", i, "1") for i in range(count)]


def test_records_stay_and_nothing_is_added_twice(tmp_path):
    with Ledger(str(tmp_path)) as ledger:
        assert ledger.add(items(3)) == 3
        ledger.write([Record(1, "done", frames=5, sha256="ab"), Record(2, "failed", "broken")])
    with Ledger(str(tmp_path)) as ledger:
        ledger.add(items(4))
        assert ledger.counts() == {"waiting": 2, "done": 1, "failed": 1}
        assert [item.name for _, item in ledger.waiting()] == ["clip3", "clip2"]  # large ones first
        assert ledger.retry_failed() == 1
        assert next(iter(ledger.rows("done")))["sha256"] == "ab"


def test_a_file_that_changed_waits_again(tmp_path):
    with Ledger(str(tmp_path)) as ledger:
        ledger.add(items(1))
        ledger.write([Record(1, "done")])
        ledger.add(items(1))
        assert ledger.counts()["done"] == 1
        ledger.add([replace(items(1)[0], version="2")])
        assert ledger.counts() == {"waiting": 1, "done": 0, "failed": 0}


def test_two_files_of_one_name_get_two_names(tmp_path):
    addresses = ["/a/clip.mp4", "/a/clip.mov", "/b/clip.mp4"]
    with Ledger(str(tmp_path)) as ledger:
        ledger.add(Item("clip", address) for address in addresses)
        names = [item.name for _, item in ledger.waiting()]
        assert names[:2] == ["clip", "clip.mov"] and len(set(names)) == 3


def test_many_items_are_read_in_pages(tmp_path):
    with Ledger(str(tmp_path)) as ledger:
        ledger.add(Item(f"c{i}", f"/v/{i}.mp4", i % 7, "1") for i in range(2500))
        numbers = [number for number, _ in ledger.waiting()]
        assert sorted(numbers) == list(range(1, 2501))


def test_a_second_run_on_the_same_output_is_refused(tmp_path):
    with Ledger(str(tmp_path)), pytest.raises(InputError, match="another run writes there"):
        Ledger(str(tmp_path))


def test_other_settings_are_refused_by_name(tmp_path):
    with Ledger(str(tmp_path)) as ledger:
        ledger.settings({"steps": 1, "weights": "aa"})
        ledger.settings({"weights": "aa", "steps": 1})
        with pytest.raises(InputError, match="steps was 1 and is 4"):
            ledger.settings({"steps": 4, "weights": "aa"})


def test_a_damaged_ledger_is_named(tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all, and long enough to be looked at" * 40)
    with pytest.raises(InputError, match=r"ledger\.sqlite: is not a whole ledger"):
        Ledger(str(tmp_path))


def test_a_ledger_at_an_address_is_copied_there_and_back(tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setenv("DIFFSAL_CACHE", str(tmp_path / "one"))
    with Ledger("memory://out/run") as ledger:
        ledger.add(items(2))
        ledger.write([Record(1, "done")])
    monkeypatch.setenv("DIFFSAL_CACHE", str(tmp_path / "another machine"))
    with Ledger("memory://out/run") as ledger:
        assert ledger.counts() == {"waiting": 1, "done": 1, "failed": 0}
