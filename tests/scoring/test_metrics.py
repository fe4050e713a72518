"""The metrics against the MIT benchmark's own code (goldens) and pysaliency, and what they say at the edges."""

import importlib.util

import numpy as np
import pytest
import torch

from diffsal.scoring.metrics import (
    auc_borji,
    auc_judd,
    auc_shuffled,
    cc,
    draw_distinct,
    information_gain,
    kld,
    nss,
    sim,
)

SAMPLED = {"AUC_Borji": 0.01, "AUC_shuffled": 0.01}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scores(p, g, f, other, base) -> dict[str, torch.Tensor]:
    return {
        "CC": cc(p, g), "SIM": sim(p, g), "NSS": nss(p, f), "KLD": kld(p, g), "IG": information_gain(p, f, base),
        "AUC_Judd": auc_judd(p, f), "AUC_Borji": auc_borji(p, f, generator=seeded()),
        "AUC_shuffled": auc_shuffled(p, f, other, generator=seeded()),
    }


def test_equal_to_the_mit_code(golden):
    values = golden("metrics")
    cases = sorted({key.split(".")[0] for key in values})
    assert len(cases) == 8
    for case in cases:
        maps = (torch.from_numpy(values[f"{case}.input.{k}"].astype(np.float64))
                for k in ("pred", "gt", "fix", "other", "base"))
        for name, ours in scores(*maps).items():
            reference = float(values[f"{case}.{name}"])
            assert ours.item() == pytest.approx(reference, abs=SAMPLED.get(name, 1e-6), nan_ok=True), (case, name)


def mit_loop(p: np.ndarray, fixated: np.ndarray) -> float:
    """AUC-Judd as the MIT code computes it, threshold by threshold."""
    n, tp, fp = int(fixated.sum()), [0.0], [0.0]
    for k, threshold in enumerate(np.sort(p[fixated])[::-1], 1):
        tp.append(k / n)
        fp.append((int((p >= threshold).sum()) - k) / (p.size - n))
    return float(np.trapezoid([*tp, 1.0], [*fp, 1.0]))


MAPS = {
    "plain": lambda r: r.random((20, 30)),
    "ties": lambda r: r.integers(0, 8, (20, 30)),
    "float32": lambda r: r.random((20, 30)).astype(np.float32),
    "a hair's breadth": lambda r: 1000 + 1e-9 * r.random((20, 30)),
    "one peak": lambda r: np.where(r.random((20, 30)) > 0.99, 1.0, 1e-6 * r.random((20, 30))),
    "huge": lambda r: 1e300 * r.random((20, 30)),
    "tiny": lambda r: 1e-310 * r.random((20, 30)),
    "negative": lambda r: r.standard_normal((20, 30)),
    "bytes": lambda r: r.integers(0, 256, (20, 30), np.uint8),
}


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("num_fixations", [1, 25, 400])
def test_auc_judd_equals_the_loop_over_thresholds(kind, num_fixations):
    generator = np.random.default_rng(num_fixations)
    p = MAPS[kind](generator)
    fixated = np.zeros(p.size, bool)
    fixated[generator.choice(p.size, num_fixations, replace=False)] = True
    ours = auc_judd(torch.from_numpy(p), torch.from_numpy(fixated.reshape(p.shape)))
    assert ours.item() == pytest.approx(mit_loop(p, fixated.reshape(p.shape)), abs=1e-12)


def test_counted_fixations_are_as_many_fixations():
    p, f = torch.rand(12, 16, generator=seeded()).double(), torch.zeros(12, 16)
    f[2, 3], f[5, 5], f[9, 1] = 3, 1, 2
    z = (p - p.mean()) / p.std()
    assert nss(p, f, counted=True).item() == pytest.approx(((3 * z[2, 3] + z[5, 5] + 2 * z[9, 1]) / 6).item())
    assert nss(p, f).item() == pytest.approx((z[2, 3] + z[5, 5] + z[9, 1]).item() / 3)
    free = p[f == 0]  # the trapezoids: each fixation beats the share of unfixated pixels below it
    beaten = sum(f[at] * (free < p[at]).double().mean() for at in ((2, 3), (5, 5), (9, 1))) / 6
    missed = (free >= p[f > 0].min()).double().mean() / 12  # the last trapezoid's top lies at 1, not beside its point
    assert auc_judd(p, f, counted=True).item() == pytest.approx((beaten + missed).item(), abs=1e-12)


def test_batches_are_maps_one_by_one():
    p, g = torch.rand(2, 3, 9, 16), torch.rand(2, 3, 9, 16)
    f = (torch.rand(2, 3, 9, 16) > 0.8).float()
    f[..., 0, :2] = 1
    cases = [(cc, g), (sim, g), (kld, g), (nss, f), (auc_judd, f), (information_gain, f, g)]
    for metric, *others in cases:
        whole = metric(p, *others)
        assert whole.shape == (2, 3)
        assert whole[1, 2].item() == pytest.approx(metric(p[1, 2], *(o[1, 2] for o in others)).item(), abs=1e-12)
    for metric, *others in [*cases, (auc_borji, f), (auc_shuffled, f, f)]:
        assert metric(p[:0], *(o[:0] for o in others)).shape == (0, 3)
        assert metric(p, *others).dtype == torch.float64


def test_a_constant_map_says_nothing():
    constant, g, f = torch.full((8, 8), 0.3), torch.rand(8, 8), torch.zeros(8, 8)
    f[2, 3] = f[4, 4] = 1
    assert cc(constant, g) == cc(g, constant) == nss(constant, f) == 0
    assert auc_judd(constant, f) == auc_borji(constant, f) == auc_shuffled(constant, f, f) == 0.5
    uniform = torch.full((8, 8), 1 / 64, dtype=torch.float64)
    d = (g - g.min()).double() / (g - g.min()).double().sum()
    assert sim(constant, g).item() == pytest.approx(torch.minimum(uniform, d).sum().item(), abs=1e-7)
    assert sim(torch.zeros(8, 8), g).item() == pytest.approx(sim(constant, g).item())
    assert information_gain(constant, f, constant) == 0
    assert kld(torch.zeros(8, 8), g).isfinite() and kld(torch.zeros(8, 8), g) > kld(constant, g)


def test_nothing_to_predict_scores_nan():
    p, none, some = torch.rand(8, 8), torch.zeros(8, 8), torch.zeros(8, 8)
    some[1, 2] = some[5, 5] = 1
    assert all(metric(p, none).isnan() for metric in (cc, sim, kld, nss, auc_judd, auc_borji))
    assert information_gain(p, none, p).isnan() and auc_shuffled(p, none, some).isnan()
    assert auc_shuffled(p, some, none).isnan()
    both = cc(torch.stack([p, p]), torch.stack([none, p]))
    assert both[0].isnan() and both[1].item() == pytest.approx(1)


def test_one_fixation_and_all_fixations():
    p, one = torch.rand(8, 8), torch.zeros(8, 8)
    one[2, 3] = 1
    assert auc_judd(one, one) == 1 and auc_borji(p, one).isnan()
    assert auc_shuffled(one, one, 1 - one) == 1
    z = (p.double() - p.double().mean()) / p.double().std()
    assert nss(p, one).item() == pytest.approx(z[2, 3].item())
    assert auc_judd(p, torch.ones(8, 8)) == 0.5 and auc_borji(p, torch.ones(8, 8)).item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("metric", [cc, sim, kld, nss, auc_judd, auc_borji])
def test_what_is_no_map_is_refused(metric):
    p = torch.rand(2, 8, 8)
    for first, second, message in (
        (p * float("nan"), p, "saliency holds NaN"), (p, p * float("nan"), "holds NaN"),
        (p / 0, p, "saliency holds infinite"), (p, p / 0, "holds infinite"), (p, p[..., :7], "expected equal"),
        (p[0, 0], p[0, 0], "expected equal"), (p[..., :0], p[..., :0], "at least one pixel"),
        (p[:, :0], p[:, :0], "at least one pixel"),
    ):
        with pytest.raises(ValueError, match=message):
            metric(first, second)


def test_a_batch_of_no_maps_has_no_scores_and_two_pixels_agree():
    none = torch.zeros(0, 4, 4)
    assert all(metric(none, none).shape == (0,) for metric in (cc, sim, kld, nss, auc_judd, auc_borji))
    assert cc(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 3.0]])).item() == pytest.approx(1)


@pytest.mark.parametrize("step", [0.1, 0.3, 1])
def test_auc_shuffled_is_the_area_by_hand_where_all_others_are_taken(step):
    """Values lie on the thresholds; with no more others than fixations each draw takes them all."""
    p = torch.arange(11, dtype=torch.float64).repeat(5)[torch.randperm(55, generator=seeded())].view(5, 11) * 0.1
    order = torch.randperm(55, generator=seeded(1)).view(5, 11)
    f, other = order < 9, order > 48
    thresholds = [k * step for k in range(int(1 / step + 1e-9), -1, -1)]
    hits = [0, *((p[f] >= t).double().mean().item() for t in thresholds), 1]
    alarms = [0, *((p[other] >= t).double().mean().item() for t in thresholds), 1]
    found = auc_shuffled(p, f, other, step=step, generator=seeded())
    area = sum((b - a) * (up + down) / 2 for a, b, up, down in zip(alarms, alarms[1:], hits[1:], hits, strict=False))
    assert found.item() == pytest.approx(area, abs=1e-12)


def test_negative_distributions_wrong_steps_and_bad_baselines_are_refused():
    p = torch.rand(8, 8)
    with pytest.raises(ValueError, match="saliency holds negative"):
        kld(p - 0.5, p)
    with pytest.raises(ValueError, match="ground_truth holds negative"):
        kld(p, p - 0.5)
    with pytest.raises(ValueError, match="step is 0"):
        auc_borji(p, p > 0.5, step=0)
    with pytest.raises(ValueError, match=r"step is 1\.5"):
        auc_borji(p, p > 0.5, step=1.5)
    with pytest.raises(ValueError, match="baseline holds NaN"):
        information_gain(p, p > 0.5, p * float("nan"))
    with pytest.raises(ValueError, match="other_fixations"):
        auc_shuffled(p, p > 0.5, p[:4])


def test_sampled_scores_follow_their_seed():
    p, f = torch.rand(30, 40, generator=seeded()), torch.rand(30, 40, generator=seeded(1)) > 0.98
    other = torch.rand(30, 40, generator=seeded(2)) > 0.8
    for metric, *maps in ((auc_borji, p, f), (auc_shuffled, p, f, other)):
        a, b, c = (metric(*maps, generator=seeded(s)).item() for s in (3, 3, 4))
        assert a == b != c


@pytest.mark.parametrize(("population", "count"), [(6, 4), (200, 5)])
def test_draws_are_distinct_and_even(population, count):
    drawn = draw_distinct(population, count, 4000, seeded())
    assert (drawn.sort(-1).values.diff(dim=-1) > 0).all()
    share = drawn.flatten().bincount(minlength=population) / 4000
    assert (share - count / population).abs().max() < 5 * (count / population / 4000) ** 0.5


def test_a_hundred_draws_are_the_default():
    p, f, other = (torch.rand(30, 40, generator=seeded(s)) for s in range(3))
    f, other = f > 0.98, other > 0.8
    for metric, rest in ((auc_borji, ()), (auc_shuffled, (other,))):
        found = metric(p, f, *rest, generator=seeded()).item()
        assert found == metric(p, f, *rest, num_splits=100, generator=seeded()).item()
        assert found != metric(p, f, *rest, num_splits=101, generator=seeded()).item()


def test_jitter_is_uniform_noise_of_1e_7():
    p = torch.rand(30, 40, dtype=torch.float64, generator=seeded(1)).round(decimals=1)
    f = torch.rand(30, 40, generator=seeded(2)) > 0.98
    noise = torch.rand(p.shape, dtype=torch.float64, generator=seeded())
    assert auc_judd(p, f, jitter=True, generator=seeded()) == auc_judd(p + 1e-7 * noise, f)


def test_jitter_breaks_ties_in_the_maps_own_precision():
    p, f = torch.zeros(20, 20, dtype=torch.float64), torch.zeros(20, 20)
    p[:10] = 1
    f[4:16, 5] = 1
    exact = auc_judd(p, f).item()
    assert auc_judd(p, f, jitter=True, generator=seeded()).item() != exact
    assert auc_judd(p + 8, f, jitter=True, generator=seeded()).item() != exact
    assert auc_judd((p + 8).float(), f, jitter=True, generator=seeded()).item() == exact  # 1e-7 is lost beside 8


def test_pysaliency_says_the_same_where_definitions_agree():
    # The module alone: the package's own import needs MATLAB helpers and the withdrawn pkg_resources
    origin = importlib.util.find_spec("pysaliency").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("pysaliency_metrics", f"{origin}/metrics.py")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    rng = np.random.default_rng(0)
    p, g = rng.random((2, 30, 40))
    p.flat[7] = g.flat[8] = 0  # pysaliency's SIM does not subtract the minimum: with a zero it need not
    fixated = np.zeros((30, 40), bool)
    fixated[rng.integers(0, 30, 20), rng.integers(0, 40, 20)] = True
    rows, columns = fixated.nonzero()
    tp, tg, tf = map(torch.from_numpy, (p, g, fixated))
    assert cc(tp, tg).item() == pytest.approx(theirs.CC(p, g), abs=1e-9)
    assert sim(tp, tg).item() == pytest.approx(theirs.SIM(p, g), abs=1e-9)
    assert kld(tp + 0.1, tg + 0.1).item() == pytest.approx(theirs.MIT_KLDiv(p + 0.1, g + 0.1), abs=1e-9)
    whole = theirs.NSS(p, columns, rows).mean() * np.sqrt(1 - 1 / p.size)  # it divides by n, the MIT code by n − 1
    assert nss(tp, tf).item() == pytest.approx(whole, abs=1e-9)
