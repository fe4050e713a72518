"""The compact network: what moves its map, and that streaming equals windows."""

import json
from dataclasses import replace

import pytest
import torch

from diffsal.config import Finish, ModelConfig
from diffsal.networks.diffsal import DiffSal
from diffsal.training.objective import correlation, kl_divergence, squared_error
from diffsal.training.recipes import compact

SIZE = (64, 128)  # the smallest at which attention has more than one key, through which the sound enters


@pytest.fixture(scope="module")
def model() -> DiffSal:
    torch.manual_seed(0)
    config = replace(compact()[0], height=SIZE[0], width=SIZE[1])
    model = DiffSal(config).eval()
    for parameter in model.parameters():  # zero-initialised paths speak too
        if parameter.dim() > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    for parameter in model.audio_encoder.parameters():  # 27 layers deep: torch's own start would fade to nothing
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter)
    return model


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, 3, 16, *SIZE, generator=generator),
        torch.randn(2, 1, 1, 96, 64, generator=generator),
        torch.randn(2, 1, *SIZE, generator=generator),
    )


@torch.no_grad()
def test_noise_timestep_and_sound_all_move_the_map(model, inputs):
    video, mel, noise = inputs
    t = torch.tensor([500, 500])
    features = model.encode(video, mel)
    base = model.denoise(noise, t, features)
    assert base.shape == (2, 1, *SIZE) and base.min() >= 0 and base.max() <= 1
    assert (model.denoise(-noise, t, features) - base).abs().max() > 1e-5
    assert (model.denoise(noise, t - 400, features) - base).abs().max() > 1e-5
    assert (model.denoise(noise, t, model.encode(video, mel + 3)) - base).abs().max() > 1e-5
    assert (model.denoise(noise, t, model.encode(video, None)) - base).abs().max() > 1e-5


@torch.no_grad()
def test_a_map_at_its_own_stride_is_the_map_before_it_is_enlarged(model, inputs):
    video, mel, noise = inputs
    features = model.encode(video, mel)
    small = model.sample(features, noise, steps=3, enlarged=False)
    assert small.shape == (2, 1, SIZE[0] // 4, SIZE[1] // 4)
    torch.testing.assert_close(model.enlarge(small), model.sample(features, noise, steps=3))


@torch.no_grad()
def test_the_finish_is_a_record_that_the_network_never_applies(model, inputs):
    video, mel, noise = inputs
    plain = model.sample(model.encode(video, mel), noise, steps=2)
    model.finish = Finish(2.0, 1.0, 1.0, 1.0, 1.0, [[-1.0, 0.0], [0.0, -1.0]])
    try:
        assert torch.equal(model.sample(model.encode(video, mel), noise, steps=2), plain)
    finally:
        model.finish = Finish()


@torch.no_grad()
def test_motion_moves_the_map(model, inputs):
    video, _, noise = inputs
    still = video[:, :, 8:9].expand(-1, -1, 16, -1, -1)
    t = torch.tensor([999, 999])
    moving, at_rest = (model.denoise(noise, t, model.encode(v, None)) for v in (video, still))
    assert (moving - at_rest).abs().max() > 1e-5


@torch.no_grad()
def test_frames_encoded_one_by_one_give_the_window(model, inputs):
    video, mel, _ = inputs
    frames = [model.encode_frames(video[:, :, i]) for i in range(16)]
    window = [torch.stack(scale, dim=2) for scale in zip(*frames, strict=True)]
    for ours, whole in zip(model.encode_window(window, mel).video, model.encode(video, mel).video, strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_repeated_frame_is_projected_once_with_the_same_result(model, inputs):
    picture = model.encode_frames(inputs[0][:, :, 0])
    expanded = [x[:, :, None].expand(-1, -1, 16, -1, -1) for x in picture]
    for a, b in zip(model.encode_window(expanded, None).video,
                    model.encode_window([x.contiguous() for x in expanded], None).video, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_sampling_is_one_call_a_step(model, inputs):
    video, mel, noise = inputs
    features, calls = model.encode(video, mel), []
    original = model.denoise
    model.denoise = lambda x_t, t, f, enlarged: calls.append(t[0].item()) or original(x_t, t, f, enlarged)
    try:
        model.sample(features, noise, steps=4)
    finally:
        del model.denoise
    assert calls == [999, 749, 499, 249]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_every_number_of_stages_learns(stages, inputs):
    torch.manual_seed(0)
    video, mel, noise = inputs
    config = replace(compact()[0], height=SIZE[0], width=SIZE[1], num_frames=8, modulation_stages=stages)
    model, video = DiffSal(config).train(), video[:, :, :8]
    model.audio_encoder.requires_grad_(False).eval()
    target = torch.zeros(2, 1, *SIZE)
    target[:, :, 40:60, 80:120] = 1.0
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(8):
        x_0 = model.denoise(noise, torch.tensor([999, 10]), model.encode(video, mel))
        loss = squared_error(x_0, target).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_wrong_sizes_and_sound_for_a_silent_network_are_refused(model, inputs):
    video, mel, _ = inputs
    with pytest.raises(ValueError, match="video is 32x128, this network expects 64x128"):
        model.encode(video[..., :32, :], None)
    silent = DiffSal(replace(model.config, audio_encoder=None))
    with pytest.raises(ValueError, match="without sound"):
        silent.encode(video, mel)


def test_config_survives_json_and_refuses_what_cannot_be():
    config = compact()[0]
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="'depth': no such setting: did you mean query_depth"):
        ModelConfig.from_dict({"depth": 3})
    with pytest.raises(ValueError, match="height is 225"):
        ModelConfig(height=225)
    with pytest.raises(ValueError, match="num_frames is 10, expected a multiple of 4: mobilenet_v2"):
        replace(config, num_frames=10)
    with pytest.raises(ValueError, match="modulation_stages is 5"):
        ModelConfig(modulation_stages=5)
    with pytest.raises(ValueError, match="video_encoder is 'resnet'"):
        ModelConfig(video_encoder="resnet")


def test_a_finish_survives_json_and_refuses_what_cannot_be():
    finish = Finish(1.1, 1.25, 3.0, 0.5, 0.4, ((-1.0, 0.0),))
    assert Finish.from_dict(json.loads(json.dumps(finish.to_dict()))) == finish
    for settings, message in (
        ({"exponent": float("nan")}, "exponent is nan"), ({"exponent": 0}, "exponent is 0"),
        ({"motion_gain": -1.0}, "motion_gain is -1.0"), ({"sound_gain": "3"}, "sound_gain is '3'"),
        ({"centre_gain": 1.0}, "centre_gain needs a centre"), ({"centre": [[0.0], [0.0, 1.0]]}, "equal length"),
        ({"centre": [[float("inf")]]}, "rows of finite numbers"), ({"centre": 3}, "rows of finite numbers"),
        ({"centre": []}, "1 to 64"),
    ):
        with pytest.raises(ValueError, match=message):
            Finish(**settings)
    with pytest.raises(ValueError, match="'sharpness': no such setting"):
        Finish.from_dict({"sharpness": 1.0})


def test_losses_of_known_maps():
    a = torch.rand(3, 1, 8, 8)
    assert torch.allclose(squared_error(a, a), torch.zeros(3))
    assert torch.allclose(kl_divergence(a, a), torch.zeros(3), atol=1e-6)
    assert torch.allclose(correlation(a, 2 * a + 1), torch.ones(3), atol=1e-4)
    assert torch.allclose(correlation(a, -a), -torch.ones(3), atol=1e-4)
