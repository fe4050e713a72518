"""One multi-modal attention modulation stage of the Saliency-UNet (paper, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diffsal.config import ModelConfig
from diffsal.networks.blocks import Mlp

STAGE_STRIDES = (2, 4, 8, 16)  # of K and V, coarsest stage first: always 7x12 / 2 positions for a 224x384 input


class DepthwiseProjection(nn.Module):
    """Depth-wise convolution over one slot, LayerNorm, linear: (n, c, h, w) → tokens (n, h'·w', c).

    ``depth`` is the kernel's temporal extent: on a single slot only its middle slice acts, so 1 says all there is;
    the released network carries 3.
    """

    def __init__(self, width: int, kernel: int, stride: int, depth: int = 1) -> None:
        super().__init__()
        self.stride, self.padding = stride, (kernel - 1) // 2 if stride == 1 else 0
        self.conv = nn.Conv3d(width, width, (depth, kernel, kernel), groups=width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k c"]:
        return self.linear(self.norm(rearrange(self.filtered(x), "n c h w -> n (h w) c")))

    def filtered(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """The depth-wise convolution alone."""
        kernel = self.conv.weight[:, :, self.conv.kernel_size[0] // 2]
        if self.stride == kernel.shape[-1]:
            below, right = (max(0, self.stride - size) for size in x.shape[-2:])
            if below or right:  # a picture of 32 rows or columns: less than one patch, filled up with zeros
                x = F.pad(x, (0, right, 0, below))
        if self.stride == kernel.shape[-1] and torch.is_grad_enabled():
            # Patches do not overlap: a weighted sum, whose gradient is far cheaper
            height, width = (size // self.stride for size in x.shape[-2:])
            x = x[:, :, : height * self.stride, : width * self.stride]
            x = rearrange(x, "n c (h p) (w q) -> n c h p w q", h=height, w=width)
            return (x * rearrange(kernel, "c 1 p q -> c 1 p 1 q")).sum((3, 5))
        return F.conv2d(x, kernel, stride=self.stride, padding=self.padding, groups=len(kernel))


class ModulationAttention(nn.Module):
    """Attention within each slot, or with ``attention_span`` "window" over the ``slots`` of a window together.

    With sound, K looks at the audio features gated by the interaction.
    """

    def __init__(self, config: ModelConfig, width: int, stride: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.spans_window = config.attention_span == "window"
        self.scale = (width if config.attention_scale == "width" else width // config.heads) ** -0.5
        self.query = DepthwiseProjection(width, 3, 1, depth=config.query_depth)
        self.key = DepthwiseProjection(width, stride, stride)
        self.value = DepthwiseProjection(width, stride, stride)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "n c h w"], key_input: Float[Tensor, "n c h w"],
        value_input: Float[Tensor, "n c h w"] | None = None, slots: int = 1,
    ) -> Float[Tensor, "n hw c"]:
        """``value_input`` None: V looks at ``x``, as Q does. Slots are in the batch."""
        s = slots if self.spans_window else 1
        q, k, v = self.query(x), self.key(key_input), self.value(x if value_input is None else value_input)
        q, k, v = (rearrange(y, "(n s) k (heads c) -> n heads (s k) c", heads=self.heads, s=s) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.out(rearrange(y, "n heads (s k) c -> (n s) k (heads c)", s=s))


class ModulationStage(nn.Module):
    """Up-sample, add the features of the scale, attend: (b, c, s, h, w) → (b, width, s, H, W).

    The first stage (``in_width`` None) starts from the coarsest features. ``audio`` is (b, a, slots, h', w'), enlarged
    by nearest neighbour to the stage's slots and positions. The second result is the audio-visual interaction, audio
    times picture averaged over the slots, (b, width, H, W), before its softmax (the paper's Figure 7); None without
    sound. ``heard`` says which samples of ``audio`` count; the others are as without sound.
    """

    def __init__(self, config: ModelConfig, index: int, audio_channels: int | None) -> None:
        super().__init__()
        width = config.widths[index]
        self.softmax_dims, self.audio_memory, self.audio_key = (
            config.interaction_softmax, config.audio_memory, config.audio_key,
        )
        self.scales_gate = config.interaction_scale == "positions"
        self.upsample = None
        if index > 0:
            self.upsample = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.Conv2d(config.widths[index - 1], width, 3, padding=2, dilation=2, bias=False),
                nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=2, dilation=2, bias=False),
                nn.BatchNorm2d(width), nn.ReLU(),
            )
        self.norm1 = nn.LayerNorm(width)
        self.attention = ModulationAttention(config, width, STAGE_STRIDES[index])
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, round(width * config.mlp_ratio))
        self.align = nn.Conv2d(audio_channels, width, 1) if audio_channels is not None else None
        self.sound_fusion = config.sound_fusion
        joins = self.align is not None and self.sound_fusion == "concatenation"
        self.join = nn.Conv2d(2 * width, width, 1) if joins else None

    def forward(
        self,
        x: Float[Tensor, "b c s h w"] | None,
        scale: Float[Tensor, "b c2 s h2 w2"] | None,
        audio: Float[Tensor, "b a s3 h3 w3"] | None,
        heard: Bool[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b c2 s h2 w2"], Float[Tensor, "b c2 h2 w2"] | None]:
        x = self.enter(x, scale)
        b, height = x.shape[0], x.shape[-2]
        pictures = rearrange(x, "b c s h w -> (b s) c h w")
        tokens = rearrange(pictures, "n c h w -> n (h w) c")
        normed = rearrange(self.norm1(tokens), "n (h w) c -> n c h w", h=height)
        key_input, value_input, interaction = normed, None, None
        if self.align is not None and audio is not None and self.sound_fusion != "modulation":
            normed, key_input, value_input = self.fuse(x, normed, audio, heard)
        elif self.align is not None and audio is not None:
            gated, interaction = self.interact(x, audio)
            key_input = gated if self.audio_key == "replace" else normed + gated
            if heard is not None:
                spoken = rearrange(heard[:, None].expand(b, x.shape[2]), "b s -> (b s)")
                key_input = torch.where(spoken[:, None, None, None], key_input, normed)
        tokens = tokens + self.attention(normed, key_input, value_input, x.shape[2])
        tokens = tokens + self.mlp(self.norm2(tokens))
        return rearrange(tokens, "(b s) (h w) c -> b c s h w", b=b, h=height), interaction

    def enter(
        self, x: Float[Tensor, "b c s h w"] | None, scale: Float[Tensor, "b c2 s h2 w2"] | None
    ) -> Float[Tensor, "b c2 s h2 w2"]:
        """The coarser stage's result, up-sampled, plus the features of this scale."""
        if x is None or self.upsample is None:
            assert scale is not None
            return scale
        b = x.shape[0]
        up = rearrange(self.upsample(rearrange(x, "b c s h w -> (b s) c h w")), "(b s) c h w -> b c s h w", b=b)
        return up if scale is None else up + scale

    def fuse(
        self, x: Float[Tensor, "b c s h w"], normed: Float[Tensor, "n c h w"], audio: Float[Tensor, "b a s2 h2 w2"],
        heard: Bool[Tensor, " b"] | None,
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"], Float[Tensor, "n c h w"] | None]:
        """What Q, K and V look at in the ablations of the modulation (V None: what Q does); slots in the batch.

        ``cross_attention``: K and V look at the audio. ``addition``: it is added to the picture. ``concatenation``:
        both side by side, brought to the width by a linear map.
        """
        size = (x.shape[2], *x.shape[-2:])
        sound = rearrange(F.interpolate(self.aligned(audio), size=size, mode="nearest"), "b c s h w -> (b s) c h w")
        if self.join is not None:
            fused = self.join(torch.cat([normed, sound], dim=1))
        else:
            fused = normed + sound if self.sound_fusion == "addition" else sound
        if heard is not None:
            spoken = rearrange(heard[:, None].expand(x.shape[0], x.shape[2]), "b s -> (b s)")
            fused = torch.where(spoken[:, None, None, None], fused, normed)
        return (normed, fused, fused) if self.sound_fusion == "cross_attention" else (fused, fused, None)

    def aligned(self, audio: Float[Tensor, "b a s h w"]) -> Float[Tensor, "b c s h w"]:
        """Audio at the stage's width."""
        assert self.align is not None
        b = audio.shape[0]
        return rearrange(self.align(rearrange(audio, "b a s h w -> (b s) a h w")), "(b s) c h w -> b c s h w", b=b)

    def interact(
        self, x: Float[Tensor, "b c s h w"], audio: Float[Tensor, "b a s2 h2 w2"]
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "b c h w"]]:
        """Audio gated by where it agrees with the picture, slots in the batch, and the interaction itself."""
        b, _, slots, height, width = x.shape
        aligned = self.aligned(audio)
        if aligned.shape[2:].numel() > 1:  # one value for the whole window needs no enlarging
            aligned = F.interpolate(aligned, size=(slots, height, width), mode="nearest")
        interaction: Tensor = sum((aligned * x).unbind(2)) / slots  # type: ignore[assignment]
        if self.softmax_dims == "row":
            gate = interaction.softmax(dim=-1)
        else:
            gate = rearrange(interaction, "b c h w -> b (h w) c").softmax(dim=1)
            gate = gate * (height * width) if self.scales_gate else gate
            gate = rearrange(gate, "b (h w) c -> b c h w", h=height)
        gated = (aligned * gate[:, :, None]).expand(-1, -1, slots, -1, -1)
        if self.audio_memory == "released":  # memory re-read as tokens, not transposed
            tokens = gated.contiguous().view(b * slots, height * width, -1)
            return rearrange(tokens, "n (h w) c -> n c h w", h=height), interaction
        return rearrange(gated, "b c s h w -> (b s) c h w"), interaction
