"""Encoders an eighth as wide, so that whole networks are built, run and trained in fractions of a second."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch

from diffsal.config import ModelConfig
from diffsal.networks.encoders import efficientnet_lite, i3d, inception, mobilenet, mvit, resnet3d, s3d, vggish

FACTOR = 8


@pytest.fixture
def narrow_encoders() -> Iterator[None]:
    """Every encoder but YAMNet, whose embedding would say too little."""
    mixed = {name: inception.Mixed(*(max(1, w // FACTOR) for w in widths)) for name, widths in inception.MIXED.items()}
    stem = tuple(w // FACTOR for w in inception.STEM_WIDTHS)
    inflated = (stem[-1], *(mixed[name].channels for name in ("3c", "4f", "5c")))
    widths = tuple(w // FACTOR for w in resnet3d.WIDTHS)
    with pytest.MonkeyPatch.context() as patch:
        for module, network in ((s3d, s3d.S3D), (i3d, i3d.I3D)):
            patch.setattr(module, "MIXED", mixed)
            patch.setattr(module, "STEM_WIDTHS", stem)
            patch.setattr(network, "channels", inflated)
        patch.setattr(resnet3d, "WIDTHS", widths)
        patch.setattr(resnet3d, "STEM_WIDTH", widths[0])
        patch.setattr(resnet3d.ResNet3D, "channels", tuple(resnet3d.EXPANSION * w for w in widths))
        for module, place in ((mobilenet, 1), (efficientnet_lite, 2)):  # of the channels in each row of BLOCKS
            blocks = [(*row[:place], row[place] // FACTOR, *row[place + 1 :]) for row in module.BLOCKS]
            patch.setattr(module, "BLOCKS", blocks)
            patch.setattr(module, "TAP_CHANNELS", tuple(w // FACTOR for w in module.TAP_CHANNELS))
        patch.setattr(vggish, "_PLAN", [step if step == "pool" else step // FACTOR for step in vggish._PLAN])
        patch.setattr(vggish, "AudioTransformer", partial(vggish.AudioTransformer, vggish.CHANNELS // FACTOR))
        patch.setattr(vggish.VGGish, "channels", vggish.CHANNELS // FACTOR)
        patch.setattr(mvit, "HEAD_WIDTH", mvit.HEAD_WIDTH // FACTOR)
        patch.setattr(mvit.MViT, "channels", tuple(w // FACTOR for w in mvit.MViT.channels))
        yield


def tiny_config(**settings) -> ModelConfig:
    """A network of 64x128 and 8 frames: the smallest at which K has two positions, through which sound enters."""
    return ModelConfig(**{
        "num_frames": 8, "height": 64, "width": 128, "widths": (64, 48, 40, 16), "noise_width": 8, "time_width": 64,
        "fusion_width": 16, "output_width": 8, "dropout": 0.0, **settings,
    })


def tiny_mel(encoder: str | None, b: int = 1) -> torch.Tensor | None:
    """Noise in the audio encoder's input layout, for VGGish smaller than its own; None without sound."""
    if encoder is None:
        return None
    shape = (9, 32, 32) if encoder == "vggish" else (1, 96, 64)
    return torch.randn(b, 1, *shape, generator=torch.Generator().manual_seed(7))
