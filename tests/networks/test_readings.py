"""Where the paper can be read in two ways: each reading is a setting, and what it changes is what it says."""

from dataclasses import replace

import pytest
import torch

from diffsal.networks.diffsal import DiffSal
from diffsal.networks.encoders.mvit import MViT
from diffsal.networks.modulation import ModulationStage
from diffsal.weights.convert import released_config
from tests.golden.fill import noise
from tests.narrow import narrow_encoders, tiny_config  # noqa: F401  (a fixture)

STAGE = tiny_config(widths=(8, 8, 8, 8))


def stage_of(**settings) -> ModulationStage:
    torch.manual_seed(0)
    return ModulationStage(replace(STAGE, **settings), 0, 16).eval()


def tensor(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(noise(name, shape))


@torch.no_grad()
def test_the_softmax_over_the_picture_is_a_softmax_or_a_gate_of_mean_one():
    x, audio = tensor("x", 2, 8, 5, 4, 8), tensor("audio", 2, 16, 9, 2, 4)
    plain, interaction = stage_of(interaction_scale="one").interact(x, audio)
    gated, same = stage_of().interact(x, audio)
    assert torch.equal(interaction, same)
    torch.testing.assert_close(gated, plain * 32)  # 4 rows of 8
    gate = interaction.flatten(2).softmax(2).view_as(interaction)
    aligned = stage_of().aligned(audio)
    nearest = torch.nn.functional.interpolate(aligned, size=(5, 4, 8), mode="nearest")
    expected = (nearest * gate[:, :, None]).permute(0, 2, 1, 3, 4).flatten(0, 1)
    torch.testing.assert_close(plain, expected)


@torch.no_grad()
def test_attention_stays_in_its_slot_or_spans_the_window():
    x = tensor("x", 2, 8, 5, 4, 8)
    moved = x.clone()
    moved[0, :, 3] += tensor("more", 8, 4, 8)
    for span, touched in (("slot", [3]), ("window", [0, 1, 2, 3, 4])):
        stage = stage_of(attention_span=span)
        change = (stage(None, moved, None)[0] - stage(None, x, None)[0]).abs().amax((1, 3, 4))
        assert change[0].nonzero().flatten().tolist() == touched and change[1].max() == 0
    one = tensor("one", 1, 8, 1, 4, 8)
    torch.testing.assert_close(stage_of(attention_span="window")(None, one, None)[0], stage_of()(None, one, None)[0])


@torch.no_grad()
def test_attention_over_the_window_is_attention_over_all_its_positions():
    stage, x = stage_of(attention_span="window").attention, tensor("x", 5, 8, 4, 8)
    q, k, v = (p(x).reshape(1, -1, 2, 4).transpose(1, 2) for p in (stage.query, stage.key, stage.value))
    weights = (q @ k.transpose(2, 3) * 4**-0.5).softmax(-1)
    expected = stage.out((weights @ v).transpose(1, 2).reshape(5, 32, 8))
    torch.testing.assert_close(stage(x, x, slots=5), expected)


@torch.no_grad()
def test_noise_reaches_every_slot_where_attention_spans_the_window():
    """So sampling computes nothing of the video's slots beforehand, and four steps are four whole calls."""
    torch.manual_seed(0)
    model = DiffSal(tiny_config(video_encoder="mobilenet_v2", audio_encoder=None, attention_span="window")).eval()
    model.unet.keeps_video_apart = True
    features = model.encode(tensor("video", 1, 3, 8, 64, 128), None)
    assert model.unet.video_stages(features.video, None) is None
    noises = tensor("noise", 2, 1, 1, 64, 128)
    maps = [model.sample(features, one, steps=2) for one in noises]
    assert not torch.equal(*maps)


@torch.no_grad()
def test_the_stream_between_mvits_scales_is_normalised_or_plain(narrow_encoders):  # noqa: F811
    """Plain, the last scale is what torchvision's layout gives, which has no other norms."""
    torch.manual_seed(0)
    usual = MViT(8, 64, 64).eval()
    torch.nn.init.uniform_(usual.norm0.weight, 0.25, 4.0)  # else a norm after a norm changes little
    plain, torchvisions = MViT(8, 64, 64, normalised_stream=False).eval(), MViT(8, 64, 64, scale_norms=False).eval()
    plain.load_state_dict(usual.state_dict())
    torchvisions.load_state_dict({k: v for k, v in usual.state_dict().items() if k in torchvisions.state_dict()})
    video = tensor("video", 1, 3, 8, 64, 64)
    ours, theirs, released = plain(video), torchvisions(video), usual(video)
    torch.testing.assert_close(ours[3], theirs[3])
    torch.testing.assert_close(ours[0], released[0])  # the first norm has the same tokens before it
    torch.testing.assert_close(ours[0], plain.norm0(theirs[0].movedim(1, -1)).movedim(-1, 1))
    assert (ours[1] - released[1]).abs().max() > 1e-2
    config = tiny_config(video_encoder="mvit_v2_s", audio_encoder=None, encoder_stream="plain")
    assert not DiffSal(config).video_encoder.normalised_stream
    assert DiffSal(replace(config, encoder_stream="normalised")).video_encoder.normalised_stream


def test_the_released_network_has_the_released_readings():
    config = released_config({})
    assert (config.attention_span, config.encoder_stream, config.interaction_softmax) == ("slot", "normalised", "row")


@pytest.mark.parametrize("setting", ["interaction_scale=one", "attention_span=window", "encoder_stream=plain"])
def test_each_is_a_setting_of_training(setting):
    from diffsal.training.recipes import configure

    name, _, value = setting.partition("=")
    assert getattr(configure("audio_visual", [setting]).model, name) == value
