"""A private copy of a network for prediction: the same maps (1e-5), sooner.

Batch norms are folded into the convolutions before them; on a CPU a convolution and its ReLU are one oneDNN call, with
the weights in oneDNN's own order (what torch's Inductor emits). Attention over few keys takes its queries' and its
output's linear layers into K and V. A frame's features are projected once instead of once per window. All follows from
the modules, whatever their sizes; they stay the reference that the tests compare with.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.networks.blocks import Downsample, pad_same
from diffsal.networks.diffsal import DiffSal
from diffsal.networks.encoders import efficientnet_lite, yamnet
from diffsal.networks.encoders.mobilenet import ConvNormReLU6, InvertedResidual, MobileNetV2
from diffsal.networks.modulation import ModulationAttention
from diffsal.networks.saliency_unet import Fusion, NoiseBranch, SlotReduction

NOTHING, RELU, RELU6 = ("none", []), ("relu", []), ("hardtanh", [0.0, 6.0])  # oneDNN's names and limits


def for_inference(model: DiffSal) -> DiffSal:
    """A copy of ``model`` in eval mode that shares with it every tensor that it leaves unchanged.

    Weights of ``model`` that change later do not all arrive in it: make a new one. A subclass of :class:`DiffSal` comes
    back as it is, for its methods may be others.
    """
    if type(model) is not DiffSal:
        return model
    fast = copy.deepcopy(model, {id(x): x for x in (*model.parameters(), *model.buffers())}).eval()
    with torch.no_grad():
        _rebuild(fast)
        fast.unet.keeps_video_apart = True
        for stage in fast.unet.stages:
            if stage.upsample is not None:
                stage.upsample = EarlyUpsample(stage.upsample)
        fusion = fast.unet.fusion
        finest = model.config.height >> (6 - len(fast.unet.stages))
        if finest < fusion.size[0]:
            fast.unet.fusion = EarlyFusion(fusion)
    return fast


def _rebuild(module: nn.Module) -> None:
    """Put faster equals in the place of the children of ``module``."""
    for name, child in module.named_children():
        if isinstance(child, MobileNetV2):
            child.projects_frames = True
        if isinstance(child, NoiseBranch) and isinstance(child.down, Downsample):
            child.conv_in, child.down = _merged(child.conv_in, child.down), nn.Identity()
        if isinstance(child, yamnet.ConvNorm):
            child = PaddedConv(child.conv, child.norm, RELU)
        elif isinstance(child, efficientnet_lite.ConvNorm):
            child = PaddedConv(*child, RELU6 if isinstance(child, efficientnet_lite.Stem) else NOTHING)
        elif isinstance(child, ConvNormReLU6):
            child = PackedConv(*child, RELU6)
        elif isinstance(child, InvertedResidual):
            child = Residual(child)
        elif isinstance(child, ModulationAttention):
            child = FewKeyAttention(child)
        elif isinstance(child, SlotReduction):
            child = PackedReduction(child)
        elif type(child) is nn.Conv2d:
            child = PackedConv(child)
        else:
            _rebuild(child)
            child = _folded(child) if type(child) is nn.Sequential else child
        setattr(module, name, child)


class PackedConv(nn.Module):
    """Convolution, then ReLU, ReLU6 or nothing, channels last; one oneDNN call on a CPU."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None = None, activation: tuple[str, list] = NOTHING) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.shape = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.activation = activation
        self.packed: Tensor | None = None
        if norm is not None:
            self.fold(norm)

    def fold(self, norm: nn.Module) -> None:
        """Take the batch norm that follows into weight and bias."""
        factor = (norm.running_var + norm.eps).rsqrt() * getattr(norm, "weight", 1.0)
        bias = norm.bias - norm.running_mean * factor
        self.bias = nn.Parameter(bias if self.bias is None else bias + self.bias * factor)
        self.weight = nn.Parameter(self.weight * factor[:, None, None, None])

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        x = x.contiguous(memory_format=torch.channels_last)
        kind, limits = self.activation
        if x.device.type != "cpu" or x.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
            padding, stride, dilation, groups = self.shape
            y = F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)
            return y if kind == "none" else F.relu(y) if kind == "relu" else y.clamp(*limits)
        if self.packed is None:
            weight = self.weight.contiguous(memory_format=torch.channels_last)
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.shape, list(x.shape))
        return torch.ops.mkldnn._convolution_pointwise(x, self.packed, self.bias, *self.shape, kind, limits, "")


def _conv(
    weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, groups: int = 1,
    activation: tuple[str, list] = NOTHING,
) -> PackedConv:
    """A packed convolution of these weights (o, i / groups, h, w)."""
    channels = weight.shape[1] * groups
    conv = nn.Conv2d(channels, len(weight), weight.shape[2:], stride, padding, groups=groups, bias=False, device="meta")
    conv.weight = nn.Parameter(weight)
    conv.bias = None if bias is None else nn.Parameter(bias)
    return PackedConv(conv, activation=activation)


def _folded(layers: nn.Sequential) -> nn.Sequential:
    """Packed convolutions of a row take in the batch norms and ReLUs that follow them."""
    kept: list[nn.Module] = []
    for layer in layers:
        last = kept[-1] if kept and isinstance(kept[-1], PackedConv) and kept[-1].activation == NOTHING else None
        if last is not None and isinstance(layer, nn.BatchNorm2d):
            last.fold(layer)
        elif last is not None and isinstance(layer, nn.ReLU):
            last.activation = RELU
        else:
            kept.append(layer)
    return nn.Sequential(*kept)


class Residual(nn.Module):
    """An inverted residual of three (two) convolutions."""

    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        *blocks, conv, norm = block.conv
        self.convs = nn.Sequential(*(PackedConv(*b, RELU6) for b in blocks), PackedConv(conv, norm))
        self.residual = block.residual

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        return self.convs(x).add_(x) if self.residual else self.convs(x)


class PaddedConv(nn.Module):
    """:class:`PackedConv` with TensorFlow's "same" padding, a step of its own only where that is lopsided."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, activation: tuple[str, list]) -> None:
        super().__init__()
        self.kernel, self.stride = conv.kernel_size, conv.stride
        self.conv = PackedConv(conv, norm, activation)
        self.lopsided = max(self.stride) > 1
        if not self.lopsided:
            self.conv.shape[0][:] = [size // 2 for size in self.kernel]

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        return self.conv(pad_same(x, self.kernel, self.stride) if self.lopsided else x)


class PackedReduction(nn.Module):
    def __init__(self, reduction: SlotReduction) -> None:
        super().__init__()
        self.conv = _conv(reduction.flat_weight(), activation=RELU)

    def forward(self, x: Float[Tensor, "b c s h w"]) -> Float[Tensor, "b c2 h w"]:
        return self.conv(rearrange(x, "b c s h w -> b (s c) h w"))


def _merged(first: nn.Conv2d, second: Downsample) -> PackedConv:
    """Two convolutions on one channel as one of 5×5. The second's stride of 4 never reaches the row that it pads."""
    bias = second.bias + einsum(second.weight, first.bias, "o m p q, m -> o")
    return _conv(F.conv_transpose2d(second.weight, first.weight), bias, stride=second.stride[0], padding=1)


class FewKeyAttention(nn.Module):
    """:class:`ModulationAttention` where keys are few: Q·Kᵀ = x·(Wq·Kᵀ) and P·V·Wo = P·(V·Wo), all heads at once."""

    def __init__(self, attention: ModulationAttention) -> None:
        super().__init__()
        self.attention = attention
        query = attention.query
        kernel = query.conv.weight[:, :, query.conv.kernel_size[0] // 2]
        self.query_conv = _conv(kernel, stride=query.stride, padding=query.padding, groups=len(kernel))

    def forward(self, x: Float[Tensor, "n c h w"], key_input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n hw c"]:
        a, heads = self.attention, self.attention.heads
        tokens = a.query.norm(rearrange(self.query_conv(x), "n c h w -> n (h w) c"))
        k, v = (rearrange(y, "n k (m d) -> n m k d", m=heads) for y in (a.key(key_input) * a.scale, a.value(x)))
        query, out = a.query.linear, a.out.weight
        keys = einsum(k, rearrange(query.weight, "(m d) c -> m d c", m=heads), "n m k d, m d c -> n m k c")
        offsets = einsum(k, rearrange(query.bias, "(m d) -> m d", m=heads), "n m k d, m d -> n m k")
        values = einsum(v, rearrange(out, "c (m d) -> m d c", m=heads), "n m k d, m d c -> n m k c")
        scores = keys.flatten(1, 2) @ tokens.transpose(1, 2)  # n (m k) hw: softmax runs along long rows
        scores = rearrange(scores, "n (m k) q -> n m k q", m=heads).add_(offsets[..., None])
        weights = scores.softmax(dim=2).flatten(1, 2)
        return (weights.transpose(1, 2) @ values.flatten(1, 2)).add_(a.out.bias)


class UpsampledConv(nn.Module):
    """A 3×3 convolution of pictures that are enlarged bilinearly and summed, without the large pictures.

    The kernel's nine taps act on the small pictures; enlarging, shifting and summing them is a matrix product along
    the rows and one along the columns, zeros outside included.
    """

    def __init__(self, conv: PackedConv) -> None:
        super().__init__()
        self.taps = _conv(rearrange(conv.weight, "o i p q -> (q p o) i 1 1"))
        self.bias, self.dilation, self.rectified = conv.bias, conv.shape[2][0], conv.activation == RELU
        self.matrices: dict[tuple[int, int], Tensor] = {}

    def forward(self, pictures: list[Float[Tensor, "b c _ _"]], size: tuple[int, int]) -> Float[Tensor, "b c2 h w"]:
        rows = []
        for x in pictures:
            taps = rearrange(self.taps(x), "b (q r) h w -> (b h) (w q) r", q=3)
            wide = self._matrix(x.shape[3], size[1], x).expand(len(taps), -1, -1) @ taps
            rows.append(rearrange(wide, "(b h) x (p o) -> b h p x o", b=len(x), p=3))
        high = torch.cat([self._matrix(x.shape[2], size[0], x) for x in pictures], dim=1)
        y = high.expand(len(rows[0]), -1, -1) @ torch.cat(rows, dim=1).flatten(1, 2).flatten(2)
        y = rearrange(y, "b y (x o) -> b y x o", x=size[1]).add_(self.bias)
        return rearrange(F.relu_(y) if self.rectified else y, "b y x o -> b o y x")

    def _matrix(self, before: int, after: int, like: Tensor) -> Float[Tensor, "after 3*before"]:
        """One axis enlarged, and a tap's neighbour on either side: column 3i + q is source i under tap q."""
        if (before, after) not in self.matrices:
            unit = torch.eye(before, device=like.device)[None]
            large = unit[0] if before == after else F.interpolate(unit, size=after, mode="linear")[0]  # before, after
            step = self.dilation
            shifted = torch.stack([F.pad(large, (step, step))[:, q * step : q * step + after] for q in range(3)], dim=1)
            self.matrices[before, after] = shifted.flatten(0, 1).T.contiguous()
        return self.matrices[before, after]

    def pays(self, x: Tensor, size: tuple[int, int]) -> bool:
        """Whether this takes clearly fewer multiplications for ``x`` than the convolution after enlarging."""
        (h, w), channels, out_channels = x.shape[2:], x.shape[1], len(self.bias)
        taps = 9 * h * w * channels * out_channels
        products = 9 * w * h * size[1] * out_channels + 3 * h * size[0] * size[1] * out_channels
        return taps + products < 0.6 * 9 * size[0] * size[1] * channels * out_channels


class EarlyUpsample(nn.Module):
    """A stage's enlarging and its two convolutions; the first convolves before it enlarges, where that pays."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.upsample, self.first, self.second = layers
        self.early = UpsampledConv(self.first)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        size = (2 * x.shape[2], 2 * x.shape[3])
        return self.second(self.early([x], size) if self.early.pays(x, size) else self.first(self.upsample(x)))


class EarlyFusion(nn.Module):
    """:class:`Fusion` where every stage is enlarged: reduced, convolved, and only then enlarged and summed."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion, self.fused_slots = fusion, fusion.fused_slots
        self.project = UpsampledConv(fusion.project[0])

    def forward(self, stages: list[Float[Tensor, "b _ s _ _"]]) -> Float[Tensor, "b 1 h w"]:
        f = self.fusion
        return f.logits(self.project([f.reduced(i, x) for i, x in enumerate(stages)], f.size))
