"""I3D (Carreira & Zisserman 2017): Inception-v1 inflated in time, with DeepMind's layer names.

It was trained on RGB in [-1, 1]: ``Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.networks.blocks import ScalelessBatchNorm, pad_same
from diffsal.networks.encoders.base import VideoEncoder
from diffsal.networks.encoders.inception import MIXED, STEM_WIDTHS, Mixed

TAPS = ("Conv3d_2c_3x3", "Mixed_3c", "Mixed_4f", "Mixed_5c")  # the ends of strides 4, 8, 16 and 32
# kernel and stride (time, height and width alike) of the max pool before a layer
POOLS = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
NORM_EPS = 1e-3
LOGITS_POOL = (2, 7, 7)
NUM_CLASSES = 400  # of Kinetics-400
JAX_LEAVES = {
    "Conv_0.kernel": "conv.weight", "Conv_0.bias": "conv.bias", "BatchNorm_0.bias": "norm.bias",
    "BatchNorm_0.mean": "norm.running_mean", "BatchNorm_0.var": "norm.running_var",
}


class I3D(VideoEncoder):
    """(b, 3, t, h, w) → four scales at strides 4, 8, 16, 32, fine to coarse; 16 frames leave 8, 8, 4, 2 slots.

    ``num_classes`` adds the Kinetics classifier (400), which DiffSal does not use.
    """

    channels = (STEM_WIDTHS[-1], MIXED["3c"].channels, MIXED["4f"].channels, MIXED["5c"].channels)

    def __init__(
        self,
        num_frames: int = 16,
        height: int = 224,
        width: int = 384,
        drop_path: float = 0.0,
        *,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        if drop_path:
            raise ValueError("i3d has no stochastic depth: leave drop_path at 0")
        fine = -(-num_frames // 2)
        self.slots = (fine, fine, -(-fine // 2), -(-fine // 4))
        first, second, third = STEM_WIDTHS
        self.Conv3d_1a_7x7 = ConvNorm(3, first, 7, 2)
        self.Conv3d_2b_1x1 = ConvNorm(first, second, 1)
        self.Conv3d_2c_3x3 = ConvNorm(second, third, 3)
        channels = third
        for name, widths in MIXED.items():
            self.add_module(f"Mixed_{name}", MixedBlock(channels, widths))
            channels = widths.channels
        self.Logits_Conv3d_0c_1x1 = Classifier(channels, num_classes) if num_classes else None

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> list[Float[Tensor, "b _ _ _ _"]]:
        x, scales = video, []
        for name, layer in self.named_children():
            if name == "Logits_Conv3d_0c_1x1":
                break
            if name in POOLS:
                x = max_pool_same(x, *POOLS[name])
            x = layer(x)
            if name in TAPS:
                scales.append(x)
        return scales

    def logits(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b k"]:
        """Class scores before the softmax, averaged over time and places; needs ``num_classes``."""
        return self.classify(self(video)[-1])

    def classify(self, coarsest: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b k"]:
        """The same from the coarsest scale."""
        if self.Logits_Conv3d_0c_1x1 is None:
            raise ValueError(f"this I3D has no classifier: build I3D(num_classes={NUM_CLASSES})")
        pooled = F.avg_pool3d(coarsest, LOGITS_POOL, 1)
        return self.Logits_Conv3d_0c_1x1(pooled).mean(dim=(2, 3, 4))


class MixedBlock(nn.Module):
    def __init__(self, channels: int, widths: Mixed) -> None:
        super().__init__()
        self.Branch_0_Conv3d_0a_1x1 = ConvNorm(channels, widths.point, 1)
        self.Branch_1_Conv3d_0a_1x1 = ConvNorm(channels, widths.reduce_1, 1)
        self.Branch_1_Conv3d_0b_3x3 = ConvNorm(widths.reduce_1, widths.conv_1, 3)
        self.Branch_2_Conv3d_0a_1x1 = ConvNorm(channels, widths.reduce_2, 1)
        self.Branch_2_Conv3d_0b_3x3 = ConvNorm(widths.reduce_2, widths.conv_2, 3)
        self.Branch_3_Conv3d_0b_1x1 = ConvNorm(channels, widths.pooled, 1)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t h w"]:
        branches = (
            self.Branch_0_Conv3d_0a_1x1(x),
            self.Branch_1_Conv3d_0b_3x3(self.Branch_1_Conv3d_0a_1x1(x)),
            self.Branch_2_Conv3d_0b_3x3(self.Branch_2_Conv3d_0a_1x1(x)),
            self.Branch_3_Conv3d_0b_1x1(max_pool_same(x, (3, 3, 3), (1, 1, 1))),
        )
        return torch.cat(branches, dim=1)


class ConvNorm(nn.Module):
    """Convolution with "same" padding, batch normalisation, ReLU."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, kernel, stride, bias=False)
        self.norm = ScalelessBatchNorm(out_channels, NORM_EPS)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        x = pad_same(x, self.conv.kernel_size, self.conv.stride)
        return F.relu(self.norm(self.conv(x)))


class Classifier(nn.Module):
    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, num_classes, 1)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b k t h w"]:
        return self.conv(x)


def max_pool_same(
    x: Float[Tensor, "b c t h w"], kernel: tuple[int, ...], stride: tuple[int, ...]
) -> Float[Tensor, "b c t2 h2 w2"]:
    """Max pool with "same" padding; what comes in is rectified, so zeros stand for minus infinity."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


def from_jax(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The flattened JAX variables (``params.…``, ``batch_stats.…``) as our state dict in float32.

    Kernels (t, h, w, in, out) become (out, in, t, h, w), statistics (1, 1, 1, 1, c) become (c,). It fits
    ``I3D(num_classes=400)``; an encoder alone takes all but ``Logits_Conv3d_0c_1x1.*``. An unknown name is a
    ``ValueError``.
    """
    renamed = {}
    for key, value in state.items():
        layer, leaf = ".".join(key.split(".")[1:-2]), ".".join(key.split(".")[-2:])
        if leaf not in JAX_LEAVES or not key.startswith(("params.", "batch_stats.")):
            raise ValueError(f"{key} is no variable of I3D, expected params.LAYER or batch_stats.LAYER with one of "
                             f"{', '.join(JAX_LEAVES)}")
        value = value.permute(4, 3, 0, 1, 2) if leaf == "Conv_0.kernel" else value.flatten()
        renamed[f"{layer}.{JAX_LEAVES[leaf]}"] = value.float().contiguous()
    return renamed
