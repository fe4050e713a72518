"""The Saliency-UNet laid out for ONNX Runtime: pictures throughout, the slots in the batch.

:mod:`diffsal.networks.saliency_unet` changes between pictures and tokens in every stage, and between slots beside the
channels and slots in the batch. torch does so by strides; ONNX Runtime copies. Here linear maps are 1×1 convolutions,
layer norms and attention work along the channels, and nothing is copied. The results are equal, which
:func:`diffsal.runtime.export.export` checks.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diffsal.networks.modulation import DepthwiseProjection, ModulationStage
from diffsal.networks.saliency_unet import SaliencyUNet, SlotReduction


def takes(unet: SaliencyUNet) -> bool:
    """Whether this layout knows all that ``unet`` does: the ablations stay as they are."""
    return not unet.spans_window and all(
        stage.sound_fusion == "modulation" and stage.softmax_dims != "row" and stage.audio_memory != "released"
        for stage in unet.stages)


class PictureUNet(nn.Module):
    """``unet`` over video features and sound: :meth:`SaliencyUNet.forward` without ``video_stages``.

    Within, x is (b·s, c, h, w): the slots of one window follow each other in the batch.
    """

    def __init__(self, unet: SaliencyUNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " b"], video: list[Float[Tensor, "b _ s _ _"]],
        audio: Float[Tensor, "b a s2 h2 w2"] | None = None, heard: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b 1 h4 w4"]:
        unet, slots = self.unet, video[0].shape[2] + 1
        noise = unet.noise(x_t, unet.time_embedding(t))
        scales = [
            torch.cat([f.transpose(1, 2), n[:, None]], dim=1).flatten(0, 1)
            for f, n in zip(video, noise, strict=False)]
        x: Tensor | None = None
        total: Tensor | None = None
        for index, stage in enumerate(unet.stages):
            assert isinstance(stage, ModulationStage)
            x = modulated(stage, x, scales[index] if index < len(scales) else None, slots, audio, heard)
            one = self.reduced(index, x, slots)
            if one.shape[-2:] != unet.fusion.size:
                one = F.interpolate(one, unet.fusion.size, mode="bilinear")
            total = one if total is None else total + one
        y = unet.fusion.logits(unet.fusion.project(total))
        return y.sigmoid() if unet.is_map else y

    def reduced(self, index: int, x: Float[Tensor, "n c h w"], slots: int) -> Float[Tensor, "b c2 h w"]:
        """One stage's slots normalised and reduced to one."""
        fusion = self.unet.fusion
        norm, reduction, kept = fusion.norms[index], fusion.reduce[index], fusion.fused_slots
        assert isinstance(norm, nn.LayerNorm) and isinstance(reduction, SlotReduction)
        weight = reduction.weight[..., 0, 0].transpose(1, 2)  # (c2, s, c), as the slots lie in the picture
        picture = standard(norm, x).unflatten(0, (-1, slots))[:, :kept].flatten(1, 2)
        return F.relu(F.conv2d(picture, *scaled(norm, weight, None)))


def modulated(
    stage: ModulationStage, x: Float[Tensor, "n c h w"] | None, scale: Float[Tensor, "n c2 h2 w2"] | None, slots: int,
    audio: Float[Tensor, "b a s2 h3 w3"] | None, heard: Bool[Tensor, " b"] | None,
) -> Float[Tensor, "n c2 h2 w2"]:
    """:meth:`ModulationStage.forward`'s first result."""
    if x is None or stage.upsample is None:
        assert scale is not None
        pictures = scale
    else:
        up = stage.upsample(x)
        pictures = up if scale is None else up + scale
    normal = standard(stage.norm1, pictures) * column(stage.norm1.weight) + column(stage.norm1.bias)
    key_input = normal
    if stage.align is not None and audio is not None:
        aligned = stage.aligned(audio).transpose(1, 2)
        slotted = normal.unflatten(0, (-1, slots))
        gated = gate(stage, pictures.unflatten(0, (-1, slots)), aligned)
        key_slots = gated.expand_as(slotted) if stage.audio_key == "replace" else slotted + gated
        if heard is not None:
            key_slots = torch.where(heard[:, None, None, None, None], key_slots, slotted)
        key_input = key_slots.flatten(0, 1)
    pictures = pictures + attended(stage, normal, key_input)
    hidden = pointwise(stage.mlp.fc1, standard(stage.norm2, pictures), stage.norm2)
    pictures = pictures + pointwise(stage.mlp.fc2, gelu(hidden))
    return pictures


def gate(
    stage: ModulationStage, x: Float[Tensor, "b s c h w"], aligned: Float[Tensor, "b s2 c h2 w2"]
) -> Float[Tensor, "b s3 c h w"]:
    """:meth:`ModulationStage.interact`'s gated audio, of one slot where the audio has one."""
    slots, _, height, width = x.shape[1:]
    if aligned.shape[1] * aligned.shape[3] * aligned.shape[4] > 1:
        size = (slots, height, width)
        aligned = F.interpolate(aligned.transpose(1, 2), size=size, mode="nearest").transpose(1, 2)
        interaction = reduce(torch.add, (aligned * x).unbind(1))
    else:
        interaction = aligned[:, 0] * reduce(torch.add, x.unbind(1))
    weight = (interaction / slots).flatten(2).softmax(-1).unflatten(2, (height, width))
    weight = weight * (height * width) if stage.scales_gate else weight
    return aligned * weight[:, None]


def attended(
    stage: ModulationStage, x: Float[Tensor, "n c h w"], key_input: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """:meth:`ModulationAttention.forward`, the positions along the rows of each matrix."""
    attention = stage.attention
    size, heads = x.shape[-2:], attention.heads
    q, k, v = (
        projected(part, y).flatten(2).unflatten(1, (heads, -1))
        for part, y in ((attention.query, x), (attention.key, key_input), (attention.value, x)))
    scores = (k.transpose(2, 3) * attention.scale) @ q  # (n, heads, keys, h·w)
    weights = (scores - scores.amax(2, keepdim=True)).exp()
    y = (v @ weights) / weights.sum(2, keepdim=True)
    return pointwise(attention.out, y.flatten(1, 2).unflatten(2, size))


def projected(part: DepthwiseProjection, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """:meth:`DepthwiseProjection.forward` without its tokens."""
    return pointwise(part.linear, standard(part.norm, part.filtered(x)), part.norm)


def standard(norm: nn.LayerNorm, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """``norm`` along the channels, without its scale and offset."""
    x = x - x.mean(1, keepdim=True)
    return x * torch.rsqrt((x * x).mean(1, keepdim=True) + norm.eps)


def pointwise(linear: nn.Linear, x: Float[Tensor, "n c h w"], norm: nn.LayerNorm | None = None) -> Tensor:
    """A linear map of the channels, after the scale and offset of ``norm``, as a 1×1 convolution."""
    if norm is None:
        return F.conv2d(x, linear.weight[:, :, None, None], linear.bias)
    return F.conv2d(x, *scaled(norm, linear.weight[:, None], linear.bias))


def scaled(
    norm: nn.LayerNorm, weight: Float[Tensor, "o s c"], bias: Float[Tensor, " o"] | None
) -> tuple[Float[Tensor, "o sc 1 1"], Float[Tensor, " o"]]:
    """Weight and bias of a 1×1 convolution that takes in what ``norm`` scales and adds, for s slots side by side."""
    offset = (weight * norm.bias).sum((1, 2))
    return (weight * norm.weight).flatten(1)[:, :, None, None], offset if bias is None else bias + offset


def gelu(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The exact GELU, in the order of operations that ONNX Runtime knows as one."""
    return x * ((x / 2**0.5).erf() + 1) * 0.5


def column(x: Float[Tensor, " c"]) -> Float[Tensor, "c 1 1"]:
    return x[:, None, None]
