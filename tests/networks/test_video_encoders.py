"""Video encoders: their sources' numbers under their sources' names, other sizes and clip lengths."""

import pytest
import torch

from diffsal.networks.encoders import VIDEO_ENCODERS, mvit, s3d
from diffsal.networks.encoders.i3d import I3D, TAPS, from_jax
from diffsal.networks.encoders.mvit import MViT
from diffsal.networks.encoders.resnet3d import ResNet3D
from diffsal.networks.encoders.s3d import S3D
from tests.conftest import relative_error, sampled


@pytest.fixture(scope="module")
def frames(golden_input):
    return golden_input("input.frames", (1, 3, 16, 224, 384))


# Channels and temporal slots of the scales, fine to coarse for 16 frames
SCALES = {
    "mvit_v2_s": ((96, 192, 384, 768), (8, 8, 8, 8)),
    "s3d": ((192, 480, 832, 1024), (8, 8, 4, 2)),
    "i3d": ((192, 480, 832, 1024), (8, 8, 4, 2)),
    "resnet3d_50": ((256, 512, 1024, 2048), (8, 4, 2, 1)),
    "mobilenet_v2": ((32, 64, 96), (1, 1, 1)),
    "efficientnet_lite0": ((32, 64, 96), (1, 1, 1)),
}


@pytest.mark.parametrize("encoder", VIDEO_ENCODERS)
def test_channels_and_slots(encoder):
    with torch.device("meta"):
        network = VIDEO_ENCODERS[encoder]()
        scales = network(torch.zeros(1, 3, 16, 224, 384))
    channels, slots = SCALES[encoder]
    assert (network.channels, network.slots) == (channels, slots)
    finest = 4 - len(channels)  # 0: stride 4
    for i, scale in enumerate(scales):
        assert scale.shape == (1, channels[i], slots[i], 56 >> finest + i, 96 >> finest + i)


def without(state, prefix):
    return {key: value for key, value in state.items() if not key.startswith(prefix)}


@torch.inference_mode()
def test_mvit_equals_torchvision(golden, golden_state, frames):
    state = mvit.from_torchvision(golden_state("torchvision_mvit_v2_s"))
    network = MViT(scale_norms=False, num_classes=400, norm_eps=1e-6, table_size=384).eval()
    network.load_state_dict(state)
    tokens = [x for x, _ in network.tokens(frames)]
    reference = golden("torchvision_mvit_v2_s")
    for block, scale in zip((0, 2, 13), tokens, strict=False):
        assert relative_error(sampled(scale), reference[f"blocks.{block}"]) < 1e-4, block
    assert relative_error(sampled(tokens[-1]), reference["norm"]) < 1e-4
    assert relative_error(network.head(tokens[-1][:, 0])[0].numpy(), reference["logits"]) < 1e-4


@torch.inference_mode()
def test_s3d_equals_torchvision(golden, golden_state, frames):
    network = S3D().eval()
    network.load_state_dict(without(golden_state("torchvision_s3d"), "classifier."))
    for tap, scale in zip(s3d.TAPS, network(frames), strict=True):
        assert relative_error(sampled(scale), golden("torchvision_s3d")[f"features.{tap}"]) < 1e-4, tap


@torch.inference_mode()
def test_resnet_equals_haras(golden, golden_state, frames):
    network = ResNet3D().eval()
    network.load_state_dict(without(golden_state("resnet3d_50"), "fc."))
    for layer, scale in enumerate(network(frames), start=1):
        assert relative_error(sampled(scale), golden("resnet3d_50")[f"layer{layer}"]) < 1e-4, layer


@torch.inference_mode()
def test_i3d_equals_deepminds(golden, frames, shared):
    from safetensors.torch import load_file

    network = I3D(num_classes=400).eval()
    network.load_state_dict(from_jax(load_file(shared / "weights/i3d_rgb_kinetics400.safetensors")))
    video = (0.4 * frames).clamp(-1, 1)
    reference = golden("i3d_kinetics400")
    scales = network(video)
    for tap, scale in zip(TAPS, scales, strict=True):
        assert relative_error(sampled(scale), reference[tap]) < 1e-4, tap
    logits = network.classify(scales[-1])
    assert relative_error(logits[0].numpy(), reference["logits"]) < 1e-4
