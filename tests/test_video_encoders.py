"""Video encoders: the sources' numbers and names, other sizes, gradients, fast paths."""

import numpy as np
import pytest
import torch

from diffsal.encoders.mvit import MViT, MViTClassifier, from_torchvision
from tests.conftest import relative_error, sampled

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def frames(golden_input):
    return golden_input("input.frames", (1, 3, 16, 224, 384))


def agrees(ours: torch.Tensor, reference: np.ndarray) -> bool:
    return relative_error(sampled(ours), reference) < TOLERANCE


def test_mvit_equals_the_released_network(golden, golden_state, frames):
    prefix = "visual_net."
    network = MViT().eval()
    state = golden_state("diffsal_video")
    network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    with torch.inference_mode():
        scales = network(frames)
    reference = golden("diffsal_video")
    for index, (scale, channels) in enumerate(zip(scales, network.channels, strict=True)):
        assert scale.shape == (1, channels, network.slots[index], 56 >> index, 96 >> index)
        assert agrees(scale, reference[f"encoder.scale{index}"])


def test_mvit_equals_torchvision(golden, golden_state, frames):
    network = MViTClassifier(table_grid=(8, 96, 96)).eval()
    network.load_state_dict(from_torchvision(golden_state("torchvision_mvit_v2_s")))
    outputs = {}
    for index in (0, 2, 13, 15):
        network.blocks[index].register_forward_hook(
            lambda module, args, output, name=f"blocks.{index}": outputs.update({name: output[0]})
        )
    network.norm.register_forward_hook(lambda module, args, output: outputs.update(norm=output))
    with torch.inference_mode():
        logits = network(frames)
    reference = golden("torchvision_mvit_v2_s")
    for name, tokens in outputs.items():
        assert agrees(tokens, reference[name]), name
    assert relative_error(logits[0].numpy(), reference["logits"]) < TOLERANCE
    assert len(outputs) == 5


@pytest.fixture(scope="module")
def mvits() -> tuple[MViT, MViT]:
    """The same network with fused and with plain attention, its relative terms large enough to matter."""
    torch.manual_seed(0)
    fused, plain = MViT().eval(), MViT(plain=True).eval()
    for name, parameter in fused.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    plain.load_state_dict(fused.state_dict())
    return fused, plain


@pytest.mark.parametrize("shape", [(16, 64, 96), (8, 96, 64), (32, 32, 64)])
def test_mvit_fused_attention_equals_plain(mvits, golden_input, shape):
    video = golden_input("video", (1, 3, *shape))
    with torch.inference_mode():
        for fused, plain in zip(*(network(video) for network in mvits), strict=True):
            assert fused.shape[2:] == plain.shape[2:] and fused.shape[2] == shape[0] // 2
            assert (fused - plain).abs().max() <= 1e-5


def test_mvit_relative_terms_matter(mvits, golden_input):
    video = golden_input("video", (1, 3, 8, 64, 96))
    without = MViT().eval()
    state = mvits[0].state_dict()
    without.load_state_dict({k: torch.zeros_like(v) if "rel_pos" in k else v for k, v in state.items()})
    with torch.inference_mode():
        assert (without(video)[-1] - mvits[0](video)[-1]).abs().max() > 1e-2
