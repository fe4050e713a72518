"""What moves in a picture that is otherwise still draws the map; where all moves, or nothing does, it stays."""

from dataclasses import replace

import pytest
import torch

from diffsal.config import ModelConfig
from diffsal.networks.diffsal import DiffSal
from diffsal.networks.encoders.mobilenet import moving_alone
from diffsal.training.recipes import compact


@pytest.fixture(scope="module")
def networks() -> tuple[DiffSal, DiffSal]:
    """The same weights without the prior and with it."""
    torch.manual_seed(0)
    plain = DiffSal(replace(compact()[0], height=64, width=96, audio_encoder=None)).eval()
    drawn = DiffSal(replace(plain.config, motion_prior=0.75)).eval()
    drawn.load_state_dict(plain.state_dict())
    return plain, drawn


@torch.inference_mode()
def maps(networks, video: torch.Tensor) -> list[torch.Tensor]:
    noise = torch.randn(1, 1, 64, 96, generator=torch.Generator().manual_seed(1))
    return [model.sample(model.encode(video, None), noise)[0, 0] for model in networks]


def test_what_moves_alone_gains_and_the_rest_keeps_its_proportions(networks):
    video = torch.zeros(1, 3, 16, 64, 96)
    video[:, :, ::2, 24:40, 64:80] = 1.0  # flickers
    plain, drawn = maps(networks, video)
    share = drawn / plain
    assert drawn.min() >= 0 and 0.8 < drawn.max() / plain.max() < 1.001  # it moves attention, and does not dim it
    assert share[32, 72] > 1.5 * share[32, 16] and torch.isclose(share[32, 72], share.max())
    assert share[8:56, :32].std() < 1e-4 * share[32, 16]


@pytest.mark.parametrize("frames", [1, 16])
def test_nothing_changes_where_nothing_moves_or_everything_does(networks, frames):
    video = torch.randn(1, 3, frames, 64, 96).expand(-1, -1, 16, -1, -1)
    assert torch.allclose(*maps(networks, video))


def test_energy_does_not_depend_on_brightness_and_grows_with_the_motion():
    still = torch.rand(1, 1, 32, 48).repeat(1, 16, 1, 1)
    slight, strong = still.clone(), still.clone()
    slight[:, 8:, 12:16, 20:28] += 0.1
    strong[:, 8:, 12:16, 20:28] += 0.5
    assert torch.equal(moving_alone(still), torch.zeros(1, 1, 32, 48))
    assert torch.allclose(moving_alone(slight + 1), moving_alone(slight), atol=1e-4)
    assert moving_alone(strong)[0, 0, 14, 24] > moving_alone(slight)[0, 0, 14, 24] > 0


def test_encoders_of_whole_windows_and_networks_that_predict_noise_have_no_motion_prior():
    for settings in ({"video_encoder": "s3d"}, {"video_encoder": "mobilenet_v2", "predicts": "noise"}):
        with pytest.raises(ValueError, match="motion_prior needs"):
            ModelConfig(motion_prior=0.5, **settings)
