"""YAMNet and VGGish: the source's numbers and the released network's names."""

import json

import pytest
import torch

from diffsal.networks.encoders.vggish import VGGish
from diffsal.networks.encoders.yamnet import YAMNet
from tests.conftest import GOLDEN, relative_error, sampled
from tests.golden.fill import fill


def yamnet_with_weights(shared) -> YAMNet:
    from safetensors.torch import load_file

    network = YAMNet(num_classes=521)
    network.load_state_dict(load_file(shared / "weights/yamnet_audioset.safetensors"))
    return network.eval()


def test_yamnet_equals_its_source(golden, golden_input, shared):
    reference = golden("yamnet")
    mel = golden_input("input.logmel", (2, 1, 96, 64)) - 1
    network = yamnet_with_weights(shared)
    with torch.inference_mode():
        embedding, scores = network(mel[:, :, None]), network.scores(mel[:, :, None])
    assert embedding.shape == (2, 1024, 1, 1, 1)
    assert relative_error(embedding.flatten(1).numpy(), reference["embedding"]) < 1e-4
    assert relative_error(scores[:, 0].numpy(), reference["scores"]) < 1e-4


def test_yamnet_embeds_each_patch_on_its_own(golden_input):
    torch.manual_seed(0)
    network = YAMNet().eval()
    mel = golden_input("patches", (2, 1, 3, 96, 64))
    with torch.inference_mode():
        together = network(mel)
        alone = network(mel[1:, :, 2:])
    assert together.shape == (2, 1024, 3, 1, 1)
    assert torch.allclose(together[1:, :, 2:], alone, atol=1e-6)


def test_yamnet_without_classifier_says_so():
    with pytest.raises(ValueError, match="num_classes=521"):
        YAMNet().scores(torch.zeros(1, 1, 1, 96, 64))


RELEASED_NAMES = {"audio_net.features.": "features.", "spatiotemp_net.transformer.": "transformer."}


def test_vggish_equals_the_released_network(golden, golden_input):
    reference = golden("diffsal_audio_video")
    shapes = json.loads((GOLDEN / "diffsal_audio_video.keys.json").read_text())
    network = VGGish().eval()
    network.load_state_dict({
        ours + key.removeprefix(theirs): torch.from_numpy(fill(key, tuple(shape)))
        for key, shape in shapes.items()
        for theirs, ours in RELEASED_NAMES.items() if key.startswith(theirs)
    })
    with torch.inference_mode():
        features = network(golden_input("input.mel", (1, 1, 9, 112, 192)))
    assert features.shape == (1, 512, 9, 7, 12)
    assert relative_error(sampled(features), reference["audio.features"]) < 1e-4


def test_vggish_is_frozen_and_its_transformer_learns():
    network = VGGish()
    network(torch.randn(1, 1, 2, 32, 32)).square().sum().backward()
    assert all(p.grad is None for p in network.features.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.transformer.parameters())
