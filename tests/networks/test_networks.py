"""One contract for every video encoder, with every number of stages, with and without sound; and that they learn."""

from itertools import product
from typing import get_args

import pytest
import torch

from diffsal.config import AudioEncoderName, ModelConfig, VideoEncoderName
from diffsal.networks.diffsal import DiffSal, Features
from diffsal.networks.encoders import AUDIO_ENCODERS, VIDEO_ENCODERS
from diffsal.training.objective import squared_error
from tests.narrow import narrow_encoders, tiny_config, tiny_mel  # noqa: F401

pytestmark = pytest.mark.usefixtures("narrow_encoders")
SOUNDS = (None, *AUDIO_ENCODERS)
EVERY = list(product(VIDEO_ENCODERS, (1, 2, 3, 4), SOUNDS))
# Every encoder without and with sound, all numbers of stages and both audio encoders among them
SOME = [(encoder, 1 + (i + j) % 4, sound) for i, encoder in enumerate(VIDEO_ENCODERS)
        for j, sound in enumerate((None, SOUNDS[1 + i % 2]))]


def build(encoder: str, stages: int, sound: str | None, **settings) -> DiffSal:
    """A network in which every path speaks: what starts at zero is given something to say."""
    torch.manual_seed(0)
    model = DiffSal(tiny_config(video_encoder=encoder, modulation_stages=stages, audio_encoder=sound, **settings))
    for name, parameter in model.named_parameters():
        if "encoder." in name and parameter.dim() > 3:  # deep, in eval mode: torch's own start would fade to nothing
            torch.nn.init.kaiming_normal_(parameter)
        elif parameter.dim() > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def clip(b: int, config: ModelConfig, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(b, 3, config.num_frames, config.height, config.width, generator=generator)
    return video, torch.randn(b, 1, config.height, config.width, generator=generator)


@pytest.mark.parametrize("encoder, stages, sound", EVERY)
@torch.inference_mode()
def test_contract(encoder, stages, sound):
    model = build(encoder, stages, sound).eval()
    config, (video, noise), mel = model.config, clip(2, model.config), tiny_mel(sound, 2)
    t = torch.tensor([900, 20])
    features = model.encode(video, mel)
    assert len(features.video) == min(stages, 3)
    for i, scale in enumerate(features.video):  # coarse to fine, of the stages' widths, all with as many slots
        assert scale.shape == (2, config.widths[i], max(model.video_encoder.slots[1:]), 2 << i, 4 << i)

    base = model.denoise(noise, t, features)
    assert base.shape == noise.shape and base.min() >= 0 and base.max() <= 1 and base.std() > 0
    alone = model.denoise(noise[1:], t[1:], model.encode(video[1:], None if mel is None else mel[1:]))
    torch.testing.assert_close(alone, base[1:], rtol=1e-4, atol=1e-5)
    moved = {
        "video": model.denoise(noise, t, Features([x.flip(0) for x in features.video], features.audio)),
        "noise": model.denoise(-noise, t, features),
        "timestep": model.denoise(noise, t.flip(0), features),
    }
    if sound:
        moved["sound"] = model.denoise(noise, t, Features(features.video, features.audio.flip(0)))
        moved["its absence"] = model.denoise(noise, t, Features(features.video, model.silence(2)))
    for name, other in moved.items():
        assert (other - base).abs().max() > 1e-6, name


# What the loss cannot depend on: a constant added to every key, or before batch statistics are taken off again.
SHIFTS = (".key.linear.bias", ".key.norm.bias", "norm_k.bias", "fusion.project.0.bias")
# Encoders of single frames mix each scale on its own: what no stage reads
UNREAD = {1: ("mixes.0", "mixes.1", "motion"), 2: ("mixes.0", "motion"), 3: (), 4: ()}


@pytest.mark.parametrize("encoder, stages, sound", SOME)
def test_one_step_moves_what_learns_and_one_clip_is_learnt(encoder, stages, sound):
    model = build(encoder, stages, sound).train()
    torch.nn.init.zeros_(model.unet.fusion.predict.bias)  # begin in the middle: few steps have to do
    (video, noise), mel = clip(1, model.config), tiny_mel(sound)
    target = torch.zeros(1, 1, model.config.height, model.config.width)
    target[..., 64:] = 1.0  # what one stage of 2x4 positions can draw
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    losses = []
    for step in range(12):
        t = torch.tensor([(0, 999)[step % 2]])  # Algorithm 1
        x_t = model.schedule.add_noise(target, noise, t)
        loss = squared_error(model.denoise(x_t, t, model.encode(video, mel)), target).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if step == 0:
            unread = tuple(f"video_encoder.{n}" for n in UNREAD[stages] if model.encodes_frames)
            for name, parameter in model.named_parameters():
                moved = not torch.equal(parameter, before[name])
                if name.startswith(("audio_encoder.features", *unread)):
                    assert not moved, name
                elif not name.endswith(SHIFTS):
                    assert moved, name
    assert losses[-1] < 0.6 * losses[0], losses


def test_five_slots_without_sound_leave_noise_and_timestep_out():
    model = build("mvit_v2_s", 4, None, fused_slots=3, query_depth=3).eval()  # four slots of video, one of noise
    (video, noise), t = clip(1, model.config), torch.tensor([500])
    model.denoise(noise, t, model.encode(video, None)).square().sum().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == {name for name, _ in model.named_parameters() if name.startswith(("unet.noise.", "unet.time_"))}
    kernel = model.unet.stages[0].attention.query.conv.weight.grad  # over one slot only its middle slice acts
    assert kernel[:, :, 1].any() and not kernel[:, :, [0, 2]].any()


@pytest.mark.parametrize("encoder", VIDEO_ENCODERS)
@pytest.mark.parametrize("size", [(8, 32, 32), (16, 64, 96), (64, 32, 64)])
@torch.inference_mode()
def test_other_sizes_and_lengths(encoder, size):
    frames, height, width = size
    model = build(encoder, 4, "yamnet", num_frames=frames, height=height, width=width).eval()
    video, noise = clip(1, model.config)
    scales = model.video_encoder(video)
    for i, (scale, slots) in enumerate(zip(reversed(scales), reversed(model.video_encoder.slots), strict=True)):
        assert scale.shape[2:] == (slots, height >> 5 - i, width >> 5 - i)
    saliency = model.sample(model.encode(video, tiny_mel("yamnet")), noise)
    assert saliency.shape == noise.shape and saliency.isfinite().all()


@torch.inference_mode()
def test_weights_of_one_size_serve_every_other():
    small, large = (build("mvit_v2_s", 4, None, height=h, width=w, num_frames=n) for h, w, n in
                    ((64, 128, 8), (96, 160, 8)))
    large.load_state_dict(small.state_dict())
    video, noise = clip(1, large.config)
    assert large.eval().sample(large.encode(video, None), noise).isfinite().all()


@pytest.mark.parametrize("encoder", ["mvit_v2_s", "resnet3d_50"])
def test_stochastic_depth_drops_branches_in_training_only(encoder):
    plain, dropping = (build(encoder, 1, None, drop_path=rate).video_encoder for rate in (0.0, 0.5))
    dropping.load_state_dict(plain.state_dict())
    video, _ = clip(1, tiny_config())
    with torch.inference_mode():
        a, b = plain.eval()(video), dropping.eval()(video)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        torch.manual_seed(0)
        once, again = dropping.train()(video)[-1], dropping(video)[-1]
    assert not torch.equal(once, again)


def test_every_named_encoder_exists():
    assert set(get_args(VideoEncoderName)) == set(VIDEO_ENCODERS)
    assert set(get_args(AudioEncoderName)) == set(AUDIO_ENCODERS)
