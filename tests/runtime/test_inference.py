"""The copy that predicts gives the maps of the network itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from diffsal.config import ModelConfig
from diffsal.networks.diffsal import DiffSal
from diffsal.networks.encoders.mobilenet import MobileNetV2
from diffsal.runtime.fused import PackedConv, UpsampledConv, for_inference
from diffsal.training.recipes import compact
from tests.standin import StandIn


def lively(config: ModelConfig) -> DiffSal:
    """A network none of whose weights and statistics stand where they start."""
    torch.manual_seed(0)
    model = DiffSal(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
        elif not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    model.unet.fusion.predict.weight.data *= 0.2  # maps of every grey
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer, std=0.1)
        if name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2.0)
    return model


@pytest.mark.parametrize(("change", "sound"), [
    ({}, True), ({"video_encoder": "efficientnet_lite0"}, False),
    ({"audio_key": "replace", "interaction_softmax": "row", "noise_widths": None}, True),
])
def test_the_copy_gives_the_same_maps(change, sound):
    model = lively(replace(compact()[0], height=128, width=192, **change))
    fast = for_inference(model)
    assert any(isinstance(m, PackedConv) for m in fast.modules()) and not any(
        isinstance(m, (nn.BatchNorm2d, nn.Conv2d)) and "downs" not in name for name, m in fast.named_modules())
    frames, noise = torch.randn(18, 3, 128, 192), torch.randn(3, 1, 128, 192)
    mel = torch.randn(3, 1, 1, 96, 64) if sound else None
    with torch.inference_mode():
        maps = []
        for network in (model, fast):
            windows = [x.unfold(0, 16, 1).movedim(-1, 2) for x in network.encode_frames(frames)]
            maps.append(network.sample(network.encode_window(windows, mel), noise, steps=2))
        assert maps[0].std() > 1e-3
        torch.testing.assert_close(*maps, rtol=0, atol=1e-5)
        video = torch.stack([frames[i : i + 16].transpose(0, 1) for i in range(3)])
        torch.testing.assert_close(fast.sample(fast.encode(video, mel), noise, steps=2), maps[0], rtol=0, atol=1e-5)


SMALL = {"height": 64, "width": 96, "widths": (96, 64, 32, 16), "fusion_width": 64, "output_width": 16}


@pytest.mark.parametrize(("config", "sound"), [
    (ModelConfig(**SMALL), True), (ModelConfig(**SMALL), False),
    (replace(ModelConfig.released(sound=False), **SMALL), False),
])
def test_the_full_size_copy_gives_the_same_maps(config, sound):
    """Fast attention, one pass for what no noise reaches, convolutions before enlarging: against the plain network."""
    model = lively(config)
    fast = for_inference(model)
    model.video_encoder.use_plain(True)
    video, noise = torch.randn(1, 3, 16, 64, 96), torch.randn(2, 1, 1, 64, 96)
    mel = torch.randn(1, 1, 9, 112, 192) if sound else None
    with torch.inference_mode():
        plain = [model.sample(model.encode(video, mel), n, steps=2) for n in noise]
        ours = [fast.sample(fast.encode(video, mel), n, steps=2) for n in noise]
    assert plain[0].std() > 1e-3
    if config.fused_slots is None:
        assert (plain[0] - plain[1]).abs().max() > 1e-4  # the noise counts
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("sizes", "size", "dilation"), [
    ([(7, 12)], (14, 24), 2), ([(2, 3), (4, 6), (8, 12)], (16, 24), 1), ([(3, 5), (12, 20)], (12, 20), 1),
])
def test_a_convolution_before_enlarging_is_the_one_after_it(sizes, size, dilation):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 5, 3, padding=dilation, dilation=dilation)
    pictures = [torch.randn(2, 6, *s) for s in sizes]
    with torch.inference_mode():
        after = conv(sum(nn.functional.interpolate(x, size, mode="bilinear") for x in pictures))
        torch.testing.assert_close(UpsampledConv(PackedConv(conv))(pictures, size), after, rtol=0, atol=1e-5)


def test_the_network_itself_is_left_alone():
    model = lively(replace(compact()[0], height=64, width=96))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fast = for_inference(model)
    assert model.state_dict().keys() == before.keys() and isinstance(fast.video_encoder, MobileNetV2)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters()) and not model.video_encoder.projects_frames
    assert fast.unet.time_embedding.fc1.weight is model.unet.time_embedding.fc1.weight  # no second copy in memory
    other = StandIn()
    assert for_inference(other) is other
