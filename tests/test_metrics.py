"""The metrics against the MIT benchmark's own code (goldens) and pysaliency, and what they say at the edges."""

import numpy as np
import pytest
import torch

from diffsal.metrics import auc_judd, cc, information_gain, kld, nss, sim


def cases(golden) -> list[str]:
    return sorted({key.split(".")[0] for key in golden("metrics")})


def test_equal_to_the_mit_code(golden):
    values = golden("metrics")
    assert len(cases(golden)) >= 5
    for case in cases(golden):
        p, g, f, base = (torch.from_numpy(values[f"{case}.input.{k}"].astype(np.float64))
                         for k in ("pred", "gt", "fix", "base"))
        ours = {
            "CC": cc(p, g), "SIM": sim(p, g), "NSS": nss(p, f), "KLD": kld(p, g), "IG": information_gain(p, f, base),
            "AUC_Judd": auc_judd(p, f),
        }
        for name, value in ours.items():
            reference = float(values[f"{case}.{name}"])
            if np.isfinite(reference):
                assert value.item() == pytest.approx(reference, abs=1e-6), (case, name)


def test_auc_equals_the_per_threshold_definition_with_ties():
    generator = torch.Generator().manual_seed(0)
    p = torch.randint(0, 8, (20, 30), generator=generator).double()
    f = torch.zeros(20, 30)
    f.view(-1)[torch.randperm(600, generator=generator)[:25]] = 1
    tp, fp = [0.0], [0.0]
    for k, threshold in enumerate(sorted(p[f > 0].tolist(), reverse=True), 1):
        tp.append(k / 25)
        fp.append(((p >= threshold).sum().item() - k) / 575)
    expected = np.trapezoid([*tp, 1.0], [*fp, 1.0])
    assert auc_judd(p, f).item() == pytest.approx(expected, abs=1e-12)


def test_batches_are_maps_one_by_one():
    p, g = torch.rand(2, 3, 9, 16), torch.rand(2, 3, 9, 16)
    f = (torch.rand(2, 3, 9, 16) > 0.9).float()
    f[..., 0, 0] = 1
    for metric, other in ((cc, g), (sim, g), (kld, g), (nss, f), (auc_judd, f)):
        whole = metric(p, other)
        assert whole.shape == (2, 3)
        assert whole[1, 2].item() == pytest.approx(metric(p[1, 2], other[1, 2]).item(), abs=1e-12)


def test_edges_are_defined():
    constant, g, none = torch.ones(8, 8), torch.rand(8, 8), torch.zeros(8, 8)
    one = none.clone()
    one[2, 3] = 1
    assert cc(constant, g) == 0 and nss(constant, one) == 0 and auc_judd(constant, one) == 0.5
    assert nss(g, none).isnan() and auc_judd(g, none).isnan()
    assert auc_judd(one, one) == 1 and cc(g, g).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="holds NaN"):
        cc(g * float("nan"), g)
    with pytest.raises(ValueError, match="expected equal"):
        cc(g, torch.rand(8, 9))
