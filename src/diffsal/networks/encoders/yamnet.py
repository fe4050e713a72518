"""YAMNet: MobileNet-v1 on log-mel patches, trained on AudioSet (Plakal and Ellis, TensorFlow models, 2019)."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.networks.blocks import ScalelessBatchNorm, pad_same
from diffsal.networks.encoders.base import AudioEncoder

EMBEDDING_WIDTH = 1024
NORM_EPS = 1e-4
NUM_CLASSES = 521  # AudioSet's classes as YAMNet scores them
_POINTWISE_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_DEPTHWISE_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class ConvNorm(nn.Module):
    """Convolution with "same" padding, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, groups=groups, bias=False)
        self.norm = ScalelessBatchNorm(channels, NORM_EPS)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        x = pad_same(x, self.conv.kernel_size, self.conv.stride)
        return F.relu(self.norm(self.conv(x)))


class YAMNet(AudioEncoder):
    """One 1,024-wide embedding per log-mel patch of 0.96 s: an audio encoder for DiffSal.

    ``num_classes`` adds the AudioSet classifier (521 classes), which DiffSal does not use.
    """

    channels = EMBEDDING_WIDTH

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(ConvNorm(1, 32, 3, stride=2))
        width = 32
        for pointwise_width, stride in zip(_POINTWISE_WIDTHS, _DEPTHWISE_STRIDES, strict=True):
            self.layers.append(ConvNorm(width, width, 3, stride, groups=width))
            self.layers.append(ConvNorm(width, pointwise_width, 1))
            width = pointwise_width
        self.classifier = nn.Linear(width, num_classes) if num_classes else None

    def forward(self, mel: Float[Tensor, "b 1 n 96 64"]) -> Float[Tensor, "b 1024 n 1 1"]:
        """Embeddings of ``n`` patches log(mel + 0.001), each (time, band)."""
        patches = rearrange(mel, "b 1 n t f -> (b n) 1 t f")
        embeddings = self.layers(patches).mean((2, 3))
        return rearrange(embeddings, "(b n) c -> b c n 1 1", b=mel.shape[0])

    def scores(self, mel: Float[Tensor, "b 1 n 96 64"]) -> Float[Tensor, "b n classes"]:
        """AudioSet class scores in [0, 1] of each patch; needs ``num_classes``."""
        if self.classifier is None:
            raise ValueError(f"this YAMNet has no classifier; build YAMNet(num_classes={NUM_CLASSES})")
        return self.classifier(rearrange(self(mel), "b c n 1 1 -> b n c")).sigmoid()
