"""What is to be done: folders, manifests, addresses."""

import pytest

from diffsal.cluster.manifest import list_items
from diffsal.errors import InputError

pytest.importorskip("fsspec")


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "sub/b.MKV", "sub/c.jpg", "._a.mp4", "@eaDir/a.mp4", ".hidden/d.mp4", "notes.txt", "[x].mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    return tmp_path


def test_folder_lists_videos_and_pictures_and_nothing_that_file_systems_add(folder):
    items = list(list_items(str(folder)))
    assert sorted(item.name for item in items) == ["[x]", "a", "sub/b", "sub/c"]
    assert {item.num_bytes for item in items} == {5}
    assert all(item.version.startswith("5:") for item in items)


def test_folder_at_an_address():
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/videos/deep/a.mp4", b"123")
    items = list(list_items("memory://videos"))
    assert [(item.name, item.num_bytes) for item in items] == [("deep/a", 3)]
    assert fsspec.open(items[0].address).open().read() == b"123"


@pytest.mark.parametrize(("name", "text"), [
    ("list.txt", "# comment\na.mp4\n\nsub/b.MKV\n"),
    ("list.csv", "id,Video\n1,a.mp4\n2,sub/b.MKV\n"),
    ("list.tsv", "video\tid\na.mp4\t1\nsub/b.MKV\t2\n"),
])
def test_manifests_start_at_their_folder(folder, name, text):
    (folder / name).write_text(text)
    items = list(list_items(str(folder / name)))
    assert [item.name for item in items] == ["a", "sub/b"]
    assert [item.address for item in items] == [str(folder / "a.mp4"), str(folder / "sub/b.MKV")]


def test_parquet_manifest(folder):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"url": ["s3://bucket/x/clip.mp4?v=1", "a.mp4"]}), folder / "list.parquet")
    assert [item.name for item in list_items(str(folder / "list.parquet"))] == ["clip", "a"]


def test_a_name_never_leaves_the_output(folder):
    (folder / "list.txt").write_text("../../etc/passwd.mp4\n/elsewhere/x.mp4\n")
    assert [item.name for item in list_items(str(folder / "list.txt"))] == ["etc/passwd", "x"]


@pytest.mark.parametrize(("name", "data", "words"), [
    ("list.csv", b"a,b\n1,2\n", "columns a, b"),
    ("list.txt", b"\xff\xfe\x00a", "not UTF-8"),
    ("list.parquet", b"nothing", "not a whole Parquet file"),
])
def test_bad_manifests_are_one_line(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=words) as error:
        list(list_items(str(tmp_path / name)))
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["nowhere", "nosuch://bucket/x"])
def test_what_is_not_there_is_named(source):
    with pytest.raises(InputError, match=source):
        list(list_items(source))
