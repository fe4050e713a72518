"""The UNet in pictures gives the network's maps, whatever the layout's settings."""

import pytest
import torch

from diffsal.networks.diffsal import DiffSal
from diffsal.runtime.export_pictures import PictureUNet, takes
from tests.narrow import narrow_encoders, tiny_config, tiny_mel  # noqa: F401

pytestmark = pytest.mark.usefixtures("narrow_encoders")


def network(**settings) -> DiffSal:
    torch.manual_seed(0)
    model = DiffSal(tiny_config(video_encoder="s3d", **settings)).eval()
    for parameter in model.parameters():  # norms with scales and offsets, and no path that starts at zero
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@torch.no_grad()
@pytest.mark.parametrize("settings", [
    {"audio_encoder": "vggish"},
    {"audio_encoder": "vggish", "audio_key": "add", "interaction_scale": "one"},
    {"audio_encoder": "yamnet", "audio_key": "add", "fused_slots": 2, "noise_widths": (12, 8, 8)},
    {"audio_encoder": "yamnet", "attention_scale": "width", "modulation_stages": 2, "predicts": "noise"},
    {"audio_encoder": None, "query_depth": 3, "centre_prior": True, "modulation_stages": 1},
], ids=str)
def test_pictures_give_the_networks_maps(settings):
    model = network(**settings)
    video, x_t = torch.randn(2, 3, 8, 64, 128), torch.randn(2, 1, 64, 128)
    t = torch.tensor([999, 250])
    features = model.encode(video, tiny_mel(settings["audio_encoder"], 2))
    for heard in (None, torch.tensor([True, False])) if features.audio is not None else (None,):
        theirs = model.unet(x_t, t, features.video, features.audio, None, heard)
        ours = PictureUNet(model.unet)(x_t, t, features.video, features.audio, heard=heard)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert theirs.std() > 1e-3


@pytest.mark.parametrize("settings", [
    {"interaction_softmax": "row"}, {"audio_memory": "released"}, {"attention_span": "window"},
    {"sound_fusion": "addition"},
], ids=str)
def test_other_networks_keep_their_own_layout(settings):
    assert takes(network(audio_encoder="vggish").unet)
    assert not takes(network(audio_encoder="vggish", **settings).unet)
