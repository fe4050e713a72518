"""What moves in a picture that is otherwise still draws the map; where all moves, or nothing does, it stays."""

import pytest
import torch

from diffsal.config import Finish
from diffsal.prediction.finish import finished, moving_alone


def maps(brightness: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A map without and with what moves."""
    raw = torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(1)) * 0.5
    return raw[0, 0], finished(raw, Finish(motion_gain=0.75), moving_alone(brightness))[0, 0]


def test_what_moves_alone_gains_and_the_rest_keeps_its_proportions():
    brightness = torch.zeros(1, 16, 16, 24)
    brightness[:, ::2, 6:10, 16:20] = 1.0  # flickers
    plain, drawn = maps(brightness)
    share = drawn / plain
    assert drawn.min() >= 0 and drawn.max() == pytest.approx(plain.max())  # it moves attention, and does not dim it
    assert share[16, 36] > 1.5 * share[16, 8] and torch.isclose(share[16, 36], share.max())
    assert share[4:28, :16].std() < 1e-4 * share[16, 8]


@pytest.mark.parametrize("frames", [1, 16])
def test_nothing_changes_where_nothing_moves_or_everything_does(frames):
    assert torch.allclose(*maps(torch.randn(1, frames, 16, 24).expand(-1, 16, -1, -1)))


def test_energy_does_not_depend_on_brightness_and_grows_with_the_motion():
    still = torch.rand(1, 1, 32, 48).repeat(1, 16, 1, 1)
    slight, strong = still.clone(), still.clone()
    slight[:, 8:, 12:16, 20:28] += 0.1
    strong[:, 8:, 12:16, 20:28] += 0.5
    assert torch.equal(moving_alone(still), torch.zeros(1, 1, 32, 48))
    assert torch.allclose(moving_alone(slight + 1), moving_alone(slight), atol=1e-4)
    assert moving_alone(strong)[0, 0, 14, 24] > moving_alone(slight)[0, 0, 14, 24] > 0


def test_the_centre_is_added_to_the_logit_and_the_exponent_comes_after():
    raw = torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(1))
    finish = Finish(1.5, centre_gain=0.5, centre=((0.0, -4.0),))
    centre = torch.nn.functional.interpolate(torch.tensor([[[[0.0, -4.0]]]]), size=(16, 24), mode="bilinear")
    torch.testing.assert_close(finished(raw, finish), (raw.logit() + 0.5 * centre).sigmoid() ** 1.5)
    edges = torch.tensor([[[[0.0, 1.0]]]])
    assert torch.equal(finished(edges, finish), edges)


def test_nothing_is_done_by_default():
    raw = torch.rand(1, 1, 8, 8)
    assert torch.equal(finished(raw, Finish(), torch.rand(1, 1, 8, 8), torch.rand(1, 1, 4, 4)), raw)
