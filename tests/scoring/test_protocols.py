"""Each protocol on small cases: the official post-processing's goldens, resizing, fixations, negatives."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from diffsal.data.truth import count_fixations
from diffsal.scoring.protocols import (
    PROTOCOLS,
    FrameTruth,
    centre_prior,
    drawn_map,
    min_max,
    score_frame,
)
from diffsal.scoring.resizing import resize_bicubic, resize_linear, resize_spline


def case(golden, name: str) -> tuple[np.ndarray, FrameTruth, dict]:
    values = golden("metrics")
    p, g, f, other = (values[f"{name}.input.{k}"] for k in ("pred", "gt", "fix", "other"))
    truth = FrameTruth(g.astype(np.float64), f.astype(np.int64), other > 0)
    return p, truth, {k.split(".")[1]: float(v) for k, v in values.items() if k.startswith(f"{name}.") and v.ndim == 0}


CASES = ("smooth0", "smooth1", "smooth3", "smooth4", "ties8bit", "perfect", "anticorrelated")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("protocol", "prefix"), [("mit", ""), ("dhf1k", ""), ("stavis", "postprocessed_")])
def test_official_values(golden, name, protocol, prefix):
    p, truth, expected = case(golden, name)
    ours = score_frame(PROTOCOLS[protocol], p, truth, jitter=False)
    for key, reference in (("CC", "CC"), ("SIM", "SIM"), ("NSS", "NSS"), ("AUC-J", "AUC_Judd")):
        assert ours[key] == pytest.approx(expected[prefix + reference], abs=1e-6), (name, key)
    if not prefix:
        for key, reference in (("AUC-B", "AUC_Borji"), ("sAUC", "AUC_shuffled")):
            assert ours[key] == pytest.approx(expected[reference], abs=0.01), (name, key)
        assert ours["KLD"] == pytest.approx(expected["KLD"], abs=1e-6)


def test_jitter_follows_the_protocol_and_the_seed(golden):
    p, truth, _ = case(golden, "ties8bit")
    exact = score_frame(PROTOCOLS["mit"], p, truth, jitter=False)["AUC-J"]
    shaken = [score_frame(PROTOCOLS["mit"], p, truth, seed)["AUC-J"] for seed in (1, 1, 2)]
    assert shaken[0] == shaken[1] != shaken[2] and shaken[0] != exact
    assert shaken[0] == pytest.approx(exact, abs=2e-3)
    for name in ("ntire", "gaze"):
        assert score_frame(PROTOCOLS[name], p, truth, 1) == score_frame(PROTOCOLS[name], p, truth, 1, jitter=False)


def test_ntire_counts_fixations_as_often_as_they_are():
    rng = np.random.default_rng(0)
    p, points = rng.random((20, 30)), np.array([[3, 4], [3, 4], [20, 11]])
    counts = count_fixations(points, 20, 30)
    truth = FrameTruth(drawn_map(counts), counts)
    z = (p - p.mean()) / p.std(ddof=1)
    assert score_frame(PROTOCOLS["ntire"], p, truth)["NSS"] == pytest.approx((2 * z[4, 3] + z[11, 20]) / 3)
    assert score_frame(PROTOCOLS["gaze"], p, truth)["NSS"] == pytest.approx((z[4, 3] + z[11, 20]) / 2)


def test_constant_and_empty_frames():
    f = count_fixations(np.array([[1, 2], [5, 5]]), 12, 16)
    truth, nobody = FrameTruth(drawn_map(f), f), FrameTruth(np.zeros((12, 16)), np.zeros((12, 16), np.int64))
    for protocol in PROTOCOLS.values():
        constant = score_frame(protocol, np.full((6, 8), 0.4, np.float32), truth, jitter=False)
        assert constant["AUC-J"] == 0.5
        if not protocol.as_matlab:
            assert constant["CC"] == constant["NSS"] == 0
            assert np.isnan(constant["SIM"]) == (protocol.name == "gaze")
        assert all(np.isnan(v) for v in score_frame(protocol, np.random.rand(6, 8), nobody).values())


def test_the_pack_s_own_numbers():
    """CC, SIM, NSS and AUC-J as the gaze pack's script writes them down, on a map that has to be enlarged."""
    import cv2

    rng = np.random.default_rng(1)
    small, points = rng.integers(0, 256, (9, 16), np.uint8), rng.integers(0, 27, (12, 2))
    counts = count_fixations(points, 27, 48)
    p = cv2.resize(small.astype(np.float32), (48, 27), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    g = cv2.GaussianBlur(counts.astype(float), (0, 0), 0.025 * 48)
    a, b = ((x - x.min()) / (x.max() - x.min()) for x in (p, g))
    fixated, z = counts > 0, (p - p.mean()) / p.std(ddof=1)
    values, thresholds = np.sort(p.ravel()), np.sort(p[fixated])[::-1]
    n, above = thresholds.size, p.size - np.searchsorted(values, thresholds, "left")
    tp, fp = np.r_[0, np.arange(1, n + 1) / n, 1], np.r_[0, (above - np.arange(1, n + 1)) / (p.size - n), 1]
    expected = {"CC": np.corrcoef(p.ravel(), g.ravel())[0, 1], "NSS": z[fixated].mean(),
                "SIM": np.minimum(a / a.sum(), b / b.sum()).sum(), "AUC-J": np.trapezoid(tp, fp)}
    ours = score_frame(PROTOCOLS["gaze"], small, FrameTruth(drawn_map(counts), counts))
    assert {k: ours[k] for k in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("size", [(48, 60), (11, 13), (30, 40), (7, 90)])
def test_bicubic_inside_is_torch_s_and_edges_are_mirrored(size):
    image = np.random.default_rng(0).random((30, 40))
    ours = resize_bicubic(image, *size)
    around = np.pad(image, 30, "symmetric")  # torch cuts the kernel at the edge; with a mirrored rim it need not
    scales = size[0] / 30, size[1] / 40
    if all(float(30 * s).is_integer() for s in scales):
        grown = tuple(round(n * s) for n, s in zip(around.shape, scales, strict=True))
        wide = interpolate(torch.from_numpy(around)[None, None], grown, mode="bicubic", antialias=True)[0, 0].numpy()
        top, left = (round(30 * s) for s in scales)
        np.testing.assert_allclose(ours, wide[top : top + size[0], left : left + size[1]], atol=1e-12)
    np.testing.assert_allclose(resize_bicubic(np.full((30, 40), 0.7), *size), 0.7, atol=1e-12)
    np.testing.assert_allclose(resize_bicubic(image[::-1, ::-1], *size), ours[::-1, ::-1], atol=1e-12)


def test_bicubic_by_hand():
    """Twice as wide: the kernel weighs -9, 111, 29, -3 (over 128) between pixels; the row goes on mirrored."""
    ours = resize_bicubic(np.array([[1.0, 2.0, 4.0, 8.0]]), 1, 8)[0] * 128
    assert ours[0] == pytest.approx(-3 * 2 + 29 * 1 + 111 * 1 - 9 * 2)
    assert ours[1] == pytest.approx(-9 * 1 + 111 * 1 + 29 * 2 - 3 * 4)
    assert ours[2] == pytest.approx(-3 * 1 + 29 * 1 + 111 * 2 - 9 * 4)
    assert ours[7] == pytest.approx(-9 * 4 + 111 * 8 + 29 * 8 - 3 * 4)


def test_linear_and_spline_resizing_keep_constants_and_range():
    image = np.random.default_rng(0).random((12, 16))
    for size in ((24, 40), (5, 7)):
        for resized in (resize_linear(image, *size), resize_spline(image, *size, 1), resize_spline(image, *size, 3)):
            assert resized.shape == size and image.min() <= resized.min() and resized.max() <= image.max()
    ramp = np.repeat(np.arange(8.0)[None], 4, 0)
    np.testing.assert_allclose(resize_spline(ramp, 4, 16, 1)[0, 1:-1], np.arange(14) / 2 + 0.25, atol=1e-9)
    np.testing.assert_allclose(resize_linear(ramp, 4, 16)[0, 1:-1], np.arange(14) / 2 + 0.25, atol=1e-6)


def test_the_centre_prior_and_drawn_maps():
    prior = centre_prior(30, 50)
    assert prior[15, 25] == 1 and prior[15, 35] == pytest.approx(np.exp(-0.5)) == prior[21, 25]
    counts = count_fixations(np.array([[20, 10], [20, 10], [30, 20]]), 30, 40)
    assert counts[10, 20] == 2 and counts[20, 30] == 1
    assert drawn_map(counts).sum() == pytest.approx(3, rel=0.05) and min_max(drawn_map(counts)).max() == 1


# --- against independent programs ----------------------------------------------------------------------------------


def test_released_is_what_numpy_and_scikit_image_make_of_the_map():
    from skimage.transform import resize

    rng = np.random.default_rng(3)
    own = rng.random((224, 384), dtype=np.float32) * 0.4 + 0.1
    gt, fix = rng.random((360, 640)), (rng.random((360, 640)) > 0.999).astype(np.int64)
    eight = ((own.astype(np.float64) - own.min()) / float(own.max() - own.min()) * 255).astype(np.uint8)
    cubic, linear = (resize(eight, (360, 640), order=order) for order in (3, 1))
    found = score_frame(PROTOCOLS["released"], own, FrameTruth(gt, fix), jitter=False)
    assert found["CC"] == pytest.approx(np.corrcoef(cubic.ravel(), gt.ravel())[0, 1], abs=1e-5)
    z = (linear - linear.mean()) / linear.std(ddof=1)
    assert found["NSS"] == pytest.approx(z[fix > 0].mean(), abs=1e-5)
    rounded = np.rint((own - own.min()) / (own.max() - own.min()) * 255).astype(np.uint8)
    assert (rounded != eight).mean() > 0.4  # truncation is not rounding


def test_released_goes_back_to_the_networks_size_when_the_map_has_the_videos():
    import cv2

    smooth = cv2.GaussianBlur(np.random.default_rng(0).random((224, 384)), (0, 0), 9)
    smooth = ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)
    gt, fix = cv2.resize(smooth, (640, 360)) ** 2, np.zeros((360, 640), np.int64)
    fix[100, 200] = 1
    truth = FrameTruth(gt.astype(np.float64), fix)
    own = score_frame(PROTOCOLS["released"], smooth, truth, jitter=False)
    large = score_frame(PROTOCOLS["released"], cv2.resize(smooth, (640, 360)), truth, jitter=False)
    assert large["CC"] == pytest.approx(own["CC"], abs=2e-3) and large["NSS"] == pytest.approx(own["NSS"], abs=0.02)


def test_stavis_blurs_the_networks_own_pixels():
    from scipy.ndimage import convolve
    from skimage.transform import resize

    small = np.random.default_rng(1).random((28, 48))
    y = np.arange(-6, 7)
    kernel = np.exp(-(y[:, None] ** 2 + y**2) / 8)  # MATLAB's fspecial('gaussian', 13, 2)
    stretched = small / small.max()
    stretched = (stretched - stretched.min()) / np.ptp(stretched)
    expected = convolve(stretched, kernel / kernel.sum(), mode="reflect")
    gt, fix = np.random.default_rng(2).random((28, 48)), np.zeros((28, 48), np.int64)
    fix[3, 4] = fix[20, 30] = 1
    at_network = score_frame(PROTOCOLS["stavis"], resize(small, (84, 144), order=0), FrameTruth(gt, fix), jitter=False,
                             network_size=(28, 48))
    assert at_network["CC"] == pytest.approx(np.corrcoef(expected.ravel(), gt.ravel())[0, 1], abs=1e-6)
    without = score_frame(PROTOCOLS["stavis"], resize(small, (84, 144), order=0), FrameTruth(gt, fix), jitter=False)
    assert abs(without["CC"] - at_network["CC"]) > 0.01  # two pixels of the file are a third as far


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_constant_maps_score_what_matlab_gives(value):
    """0 / 0 in CC.m, NSS.m, InfoGain.m, AUC_Borji.m and AUC_shuffled.m; similarity.m keeps a zero map one."""
    f = count_fixations(np.array([[1, 2], [5, 5]]), 12, 16)
    truth = FrameTruth(drawn_map(f), f, f == 0)
    for name in ("mit", "dhf1k", "stavis"):
        found = score_frame(PROTOCOLS[name], np.full((12, 16), value), truth)
        for metric in ("CC", "NSS", "IG", "AUC-B", "sAUC"):
            assert np.isnan(found[metric]), (name, metric)
        zero_stays = name != "stavis" and value == 0
        assert found["SIM"] == 0 if zero_stays else np.isnan(found["SIM"])
        g = truth.saliency_map / truth.saliency_map.sum()
        if name != "stavis" and value == 0:
            assert found["KLD"] == pytest.approx((g * np.log(2.2204e-16 + g / 2.2204e-16)).sum(), rel=1e-3)
