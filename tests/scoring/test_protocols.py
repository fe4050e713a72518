"""Each protocol on small cases: the official post-processing's goldens, resizing, fixations, negatives."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from diffsal.data.truth import count_fixations
from diffsal.scoring import metrics
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


def test_released_rounds_to_8_bits_and_resizes_by_splines():
    rng = np.random.default_rng(0)
    p, g = rng.random((20, 30)), rng.random((30, 45))
    f = (rng.random((30, 45)) > 0.95).astype(np.int64)
    ours = score_frame(PROTOCOLS["released"], 0.1 + 0.3 * p, FrameTruth(g, f), jitter=False)
    eight = np.round(255 * (p - p.min()) / (p.max() - p.min())) / 255
    cubic, linear = (torch.from_numpy(resize_spline(eight, 30, 45, order)) for order in (3, 1))
    assert ours["CC"] == pytest.approx(metrics.cc(cubic, torch.from_numpy(g)).item(), abs=1e-6)
    assert ours["NSS"] == pytest.approx(metrics.nss(linear, torch.from_numpy(f)).item(), abs=1e-12)
    assert ours["NSS"] != pytest.approx(metrics.nss(cubic, torch.from_numpy(f)).item(), abs=1e-6)
    assert set(ours) == {"CC", "SIM", "NSS", "AUC-J"}


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
        assert constant["CC"] == constant["NSS"] == 0 and constant["AUC-J"] == 0.5
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
