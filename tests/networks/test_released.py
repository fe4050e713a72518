"""The released networks, filled tensor by tensor, against what they compute (golden/README.md)."""

import functools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diffsal.networks.diffsal import DiffSal, Features
from diffsal.weights import convert
from tests.conftest import GOLDEN, relative_error, sampled
from tests.golden.fill import fill

PARAMETERS = {"diffsal_video": 71_418_433, "diffsal_audio_video": 144_813_002}
NAMES = [name + slots for name in PARAMETERS for slots in ("", "_nine_slots")]
DEAD = ("audio_net.embeddings.", "spatiotemp_net.to_patch_embedding.", "spatiotemp_net.pos_embedding", "fc.")


@functools.cache
def filled(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A live parameter as the golden's; of the dead 67.7 M only the shape."""
    return torch.zeros(()).expand(shape) if key.startswith(DEAD) else torch.from_numpy(np.asarray(fill(key, shape)))


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {k: tuple(shape) for k, shape in json.loads((GOLDEN / f"{name}.keys.json").read_text()).items()}


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def converted(name) -> tuple[DiffSal, convert.Conversion]:
    return convert.from_released({key: filled(key, shape) for key, shape in shapes(name).items()})


@pytest.fixture(scope="module")
def network(converted) -> DiffSal:
    return converted[0]


@pytest.fixture(scope="module", autouse=True)
def forget():
    yield
    filled.cache_clear()


@pytest.fixture(scope="module")
def scales() -> dict[str, list[torch.Tensor]]:
    """The video encoder's scales and the audio encoder's features: the four networks share their encoders."""
    return {}


@pytest.fixture(scope="module")
def features(network, golden_input, scales) -> Features:
    with torch.inference_mode():
        if "video" not in scales:
            scales["video"] = network.video_encoder(golden_input("input.frames", (1, 3, 16, 224, 384)))
        if network.audio_encoder is not None and "audio" not in scales:
            scales["audio"] = [network.audio_encoder(golden_input("input.mel", (1, 1, 9, 112, 192)))]
    return Features(scales["video"][:0:-1], scales["audio"][0] if network.audio_encoder is not None else None)


@pytest.fixture(scope="module")
def noise(golden_input) -> torch.Tensor:
    return golden_input("input.noise", (1, 1, 224, 384))


def test_parameters_are_counted_exactly(name, converted):
    _, conversion = converted
    expected = PARAMETERS[name.removesuffix("_nine_slots")]
    if name.endswith("_nine_slots"):  # the published figures are of the networks that fuse five
        expected += sum(4 * math.prod(shape[:2]) for key, shape in shapes(name).items() if "redu_chan_up" in key)
    assert conversion.parameters + sum(u.parameters for u in conversion.unused) == expected


def test_encoder_scales_and_audio_features(name, features, scales, golden):
    reference = golden(name)
    for index, scale in enumerate(scales["video"]):
        assert relative_error(sampled(scale), reference[f"encoder.scale{index}"]) < 1e-4, index
    if features.audio is not None:
        assert relative_error(sampled(features.audio), reference["audio.features"]) < 1e-4


@torch.inference_mode()
def test_unet_inside(name, network, features, noise, golden):
    reference, unet, t = golden(name), network.unet, torch.tensor([250])
    time = unet.time_embedding(t)
    assert relative_error(time[0].numpy(), reference["unet.time_embedding"]) < 1e-4
    for index, scale in enumerate(unet.noise(noise, time)):
        assert relative_error(sampled(scale), reference[f"unet.noise_scale{index}"]) < 1e-4, index
    stages, interactions = unet.modulate(noise, t, features.video, features.audio)
    for index, (stage, interaction) in enumerate(zip(stages, interactions, strict=True)):
        assert relative_error(sampled(stage), reference[f"unet.stage{index}"]) < 1e-4, index
        if features.audio is not None:
            assert relative_error(sampled(interaction), reference[f"unet.interaction{index}"]) < 1e-4, index
    saliency = F.interpolate(unet.fusion(stages).sigmoid(), size=(224, 384), mode="bilinear")[0, 0].numpy()
    assert np.abs(saliency - reference["saliency.t250"]).max() < 2e-5


@torch.inference_mode()
def test_map_at_the_last_timestep(name, network, features, noise, golden):
    saliency = network.denoise(noise, torch.tensor([999]), features)[0, 0].numpy()
    assert np.abs(saliency - golden(name)["saliency.t999"]).max() < 2e-5


@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 4])
def test_sampled_maps(name, network, features, noise, golden, monkeypatch, steps):
    reference = golden(name)
    monkeypatch.setattr(network.unet, "keeps_video_apart", True)  # as prediction does
    saliency = network.sample(features, noise, steps, "leading")[0, 0].numpy()
    assert np.abs(saliency - reference[f"ddim.leading.steps{steps}"]).max() < 2e-5
    if steps == 1:  # one call, at t = 0
        assert np.abs(saliency - reference["saliency.t0"]).max() < 2e-5
