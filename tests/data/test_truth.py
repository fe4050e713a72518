"""The one drawer: a fixation outside the picture is in no map, count or figure; what a folder holds is listed once."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diffsal.data.truth import blur, count_fixations, draw_map, inside, to_pixels
from diffsal.folders import find_file, list_files, list_folders, list_names, numbered_names, stem_of

OUTSIDE = [(-0.01, 0.5), (0.5, 1.001), (np.nan, 0.5), (0.5, np.inf), (-1, -1), (1e8, 0.5)]


def test_outside_is_dropped_by_every_function():
    places = np.array([(0.25, 0.5), (1.0, 1.0), (0.0, 0.0), *OUTSIDE])
    assert inside(places).tolist() == [True] * 3 + [False] * len(OUTSIDE)
    assert to_pixels(places, 10, 20).tolist() == [[5, 5], [19, 9], [0, 0]]
    np.testing.assert_array_equal(draw_map(places, 40, 60), draw_map(places[:3], 40, 60))
    assert not draw_map(places[3:], 40, 60).any()
    points = np.array([(3, 4), (3, 4), (-1, 4), (3, -1), (20, 4), (3, 10), (19, 9)])
    counts = count_fixations(points, 10, 20)
    assert counts[4, 3] == 2 and counts[9, 19] == 1 and counts.sum() == 3
    assert count_fixations(np.array([(np.nan, 2.0), (1.0, 2.0)]), 10, 20).sum() == 1
    assert count_fixations(np.zeros((0, 2), int), 10, 20).sum() == 0


def test_a_map_is_scipys_gaussian_of_the_counts():
    places = np.random.default_rng(0).random((30, 2))
    counts = count_fixations(to_pixels(places, 90, 160), 90, 160)
    expected = gaussian_filter(counts.astype(float), 4.0, mode="mirror", truncate=4.0)
    np.testing.assert_allclose(blur(counts, 4.0), expected, atol=2e-5)
    np.testing.assert_allclose(draw_map(places, 90, 160), expected / expected.max(), atol=5e-4)


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "b.MP4", "a.hires.mp4", "Song [x].mp4", "._a.mp4", ".DS_Store", "Thumbs.db", "desktop.ini",
                 "img_2.JPG", "img_10.jpg", "x.csv.gz"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("@eaDir", ".ipynb_checkpoints", "__MACOSX", "clip"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_folders_hold_what_users_put_there_and_names_are_no_patterns(folder):
    assert [p.name for p in list_folders(folder)] == ["clip"]
    assert [p.name for p in list_files(folder, (".mp4",))] == ["Song [x].mp4", "a.hires.mp4", "a.mp4", "b.MP4"]
    assert find_file(folder, "Song [x]", (".mp4",)).name == "Song [x].mp4"
    assert find_file(folder, "Song x", (".mp4",)) is None and find_file(folder, "[ab]", (".mp4",)) is None
    assert find_file(folder, "a", (".mp4",)).name == "a.mp4" and find_file(folder, "b", (".mp4",)).name == "b.MP4"
    assert numbered_names(folder, (".jpg",)) == {2: "img_2.JPG", 10: "img_10.jpg"}
    assert stem_of(folder / "x.CSV.gz", (".csv", ".gz", ".csv.gz")) == "x"
    assert list_names(folder / "nowhere") == [] and list_names(folder / "a.mp4") == []
