"""Running means: batches, NaN, and several processes."""

import pytest
import torch

from diffsal.scoring import metric_classes, metrics
from diffsal.scoring.metric_classes import CC, KLD, NSS, SIM, AUCBorji, AUCJudd, AUCShuffled, InformationGain
from tests.processes import run


def batch(seed: int, n: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p, g, b = torch.rand(3, n, 8, 12, generator=generator)
    f, o = torch.rand(2, n, 8, 12, generator=generator) > 0.9
    return {"p": p, "g": g, "b": b, "f": f, "o": o}


@pytest.mark.parametrize(("kind", "function", "keys"), [
    (CC, metrics.cc, "g"), (SIM, metrics.sim, "g"), (KLD, metrics.kld, "g"), (NSS, metrics.nss, "f"),
    (InformationGain, metrics.information_gain, "fb"), (AUCJudd, metrics.auc_judd, "f"),
    (AUCBorji, metrics.auc_borji, "f"), (AUCShuffled, metrics.auc_shuffled, "fo"),
])
def test_the_mean_over_batches_is_the_mean_over_maps(kind, function, keys):
    settings = lambda: {"generator": torch.Generator().manual_seed(5)} if kind in (AUCBorji, AUCShuffled) else {}  # noqa: E731
    running, values, shared = kind(**settings()), [], settings()
    for data in (batch(0), batch(1, 5)):
        running.update(data["p"], *(data[k] for k in keys))
        values.append(function(data["p"], *(data[k] for k in keys), **shared))
    assert running.compute().item() == pytest.approx(torch.cat(values).nanmean().item(), abs=1e-12)
    assert running.higher_is_better is (kind is not KLD)
    running.reset()
    assert running.num_scored == 0


def test_maps_without_fixations_are_left_out_and_counted():
    data, running = batch(0), NSS()
    data["f"][1] = False
    running.update(data["p"], data["f"])
    assert running.num_nan == 1 and running.num_scored == 2
    assert running.compute().item() == pytest.approx(metrics.nss(data["p"], data["f"])[[0, 2]].mean().item())


def _one_process(out: str) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    running, data = metric_classes.SIM(), batch(rank, 2 + rank)  # unequal shares
    running.update(data["p"], data["g"])
    value = running.compute().item()
    if rank == 0:
        torch.save(torch.tensor(value, dtype=torch.float64), out)
    torch.distributed.destroy_process_group()


def test_two_processes_make_one_mean(tmp_path):
    assert run(_one_process, str(tmp_path / "out.pt"), processes=2) == [0, 0]
    every = torch.cat([metrics.sim(data["p"], data["g"]) for data in (batch(0, 2), batch(1, 3))])
    assert torch.load(tmp_path / "out.pt", weights_only=True).item() == pytest.approx(every.mean().item(), abs=1e-12)
