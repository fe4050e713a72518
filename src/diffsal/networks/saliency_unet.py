"""The Saliency-UNet: noisy map, timestep and features → map (paper, section 3.3).

Names here against the released checkpoint's, under ``decoder_net.`` (``convert.py`` renames):

====================================  ==========================================================================
``time_embedding.fc1`` / ``fc2``      ``temb.dense.0`` / ``temb.dense.1``
``noise.conv_in``                     ``conv_in``
``noise.down``                        ``down1.conv``
``noise.blocks.I.time``               ``res_encoder.I.0.temb_proj`` (``shortcut``: ``nin_shortcut``; others alike)
``noise.downs.I``                     ``res_encoder.I.1.conv``
``stages.I.upsample.N``               ``invpt_decoder.mid_stages.I.patch_embed.0.proj.N``
``stages.I.norm1``, ``norm2``, ``mlp``  ``invpt_decoder.mid_stages.I.blocks.0.`` ``norm``, ``norm2``, ``mlp``
``stages.I.align``                    ``invpt_decoder.mid_stages.I.blocks.0.align_conv``
``stages.I.attention.query.conv``     ``invpt_decoder.mid_stages.I.blocks.0.attn.conv_proj_q.conv`` (key: k, value: v)
``stages.I.attention.query.norm``     ``….attn.conv_proj_q.bn``
``stages.I.attention.query.linear``   ``….attn.proj_q``
``stages.I.attention.out``            ``….attn.proj``
``fusion.norms.I``                    ``invpt_decoder.norm_mts.I``
``fusion.reduce.I``                   ``invpt_decoder.redu_chan_up.I.proj.0``
``fusion.project.0`` / ``1``          ``invpt_decoder.mt_proj.0`` / ``1``
``fusion.predict``                    ``logits.linear_pred``
====================================  ==========================================================================
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diffsal.config import ModelConfig
from diffsal.networks.blocks import Downsample, TimeEmbedding, TimeResidual
from diffsal.networks.modulation import ModulationStage


class NoiseBranch(nn.Module):
    """Noisy map and timestep → features at strides 32, 16, 8 (coarse to fine), one slot each."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        stages = config.widths[2::-1]  # fine to coarse, as the branch runs
        widths = [config.noise_width, *(config.noise_widths[::-1] if config.noise_widths else stages)]
        if config.noise_widths:  # a narrow branch reads patches: the full size would cost most of its time
            self.conv_in = nn.Conv2d(1, config.noise_width, 4, stride=4)
            self.down: nn.Module = nn.Identity()
        else:
            self.conv_in = nn.Conv2d(1, config.noise_width, 3, padding=1)
            self.down = Downsample(config.noise_width, 4)
        self.blocks = nn.ModuleList(
            TimeResidual(before, after, config.time_width, config.dropout)
            for before, after in pairwise(widths)
        )
        self.downs = nn.ModuleList(Downsample(width, 2) for width in widths[1:])
        self.projects = nn.ModuleList(
            nn.Conv2d(width, stage, 1) if width != stage else nn.Identity()
            for width, stage in zip(widths[1:], stages, strict=True)
        )

    def forward(self, x_t: Float[Tensor, "b 1 h w"], time: Float[Tensor, "b d"]) -> list[Float[Tensor, "b _ _ _"]]:
        x = self.down(self.conv_in(x_t)).contiguous(memory_format=torch.channels_last)
        scales = []
        for block, down, project in zip(self.blocks, self.downs, self.projects, strict=True):
            x = down(block(x, time))
            scales.append(project(x))
        return scales[::-1]


class SlotReduction(nn.Conv3d):
    """All slots to one by a convolution over them, rectified: (b, c, s, h, w) → (b, c', h, w)."""

    def __init__(self, channels: int, out_channels: int, slots: int) -> None:
        super().__init__(channels, out_channels, (slots, 1, 1), bias=False)

    def forward(self, x: Float[Tensor, "b c s h w"]) -> Float[Tensor, "b c2 h w"]:
        return F.relu(F.conv2d(rearrange(x, "b c s h w -> b (s c) h w"), self.flat_weight()))

    def flat_weight(self) -> Float[Tensor, "o i 1 1"]:
        """The weight for slots side by side in the channels."""
        return rearrange(self.weight, "o c s 1 1 -> o (s c) 1 1")


class Fusion(nn.Module):
    """Each stage's slots reduced to one by a temporal convolution, up-sampled, summed; then the map."""

    def __init__(self, config: ModelConfig, num_slots: int) -> None:
        super().__init__()
        widths = config.widths[: config.modulation_stages]
        self.fused_slots = config.fused_slots or num_slots
        if self.fused_slots > num_slots:
            raise ValueError(f"fused_slots is {config.fused_slots}, but the network has {num_slots} slots")
        self.size = (config.height // config.map_stride, config.width // config.map_stride)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.reduce = nn.ModuleList(
            SlotReduction(width, config.fusion_width, self.fused_slots) for width in widths
        )
        self.project = nn.Sequential(
            nn.Conv2d(config.fusion_width, config.output_width, 3, padding=1),
            nn.BatchNorm2d(config.output_width), nn.ReLU(),
        )
        self.predict = nn.Conv2d(config.output_width, 1, 1)
        if config.predicts != "noise" and self.predict.bias is not None:
            nn.init.constant_(self.predict.bias, -3.0)  # maps are mostly dark: start near their mean, not at 0.5
        self.prior = None
        if config.centre_prior:  # one value for each position of the coarsest scale
            self.prior = nn.Parameter(torch.zeros(1, 1, config.height // 32, config.width // 32))

    def forward(self, stages: list[Float[Tensor, "b _ s _ _"]]) -> Float[Tensor, "b 1 h w"]:
        """Logits at ``map_stride``."""
        total: Tensor | float = 0.0
        for index, x in enumerate(stages):
            one = self.reduced(index, x)
            total = total + (one if one.shape[-2:] == self.size else F.interpolate(one, self.size, mode="bilinear"))
        return self.logits(self.project(total))

    def reduced(self, index: int, x: Float[Tensor, "b c s h w"]) -> Float[Tensor, "b c2 h w"]:
        """One stage's slots normalised and reduced to one."""
        slots = self.norms[index](rearrange(x[:, :, : self.fused_slots], "b c s h w -> b h w s c"))
        return self.reduce[index](rearrange(slots, "b h w s c -> b c s h w"))

    def logits(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        logits = self.predict(x)
        if self.prior is not None:
            logits = logits + F.interpolate(self.prior, size=self.size, mode="bilinear")
        return logits


class SaliencyUNet(nn.Module):
    """One to four modulation stages over the video's slots and the noise's, appended as the last."""

    def __init__(self, config: ModelConfig, num_slots: int, audio_channels: int | None) -> None:
        super().__init__()
        self.size = (config.height, config.width)
        self.time_embedding = TimeEmbedding(config.time_width // 8, config.time_width)
        self.noise = NoiseBranch(config)
        self.stages = nn.ModuleList(
            ModulationStage(config, index, audio_channels) for index in range(config.modulation_stages)
        )
        self.fusion = Fusion(config, num_slots + 1)
        self.is_map, self.spans_window = config.predicts != "noise", config.attention_span == "window"
        self.keeps_video_apart = False  # whether sampling computes once what no noise reaches

    def forward(
        self,
        x_t: Float[Tensor, "b 1 h w"],
        t: Int[Tensor, " b"],
        video: list[Float[Tensor, "b _ s _ _"]],
        audio: Float[Tensor, "b a s2 h2 w2"] | None,
        video_stages: list[Float[Tensor, "b _ _ _ _"]] | None = None,
        heard: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b 1 h4 w4"]:
        """S_pred = g(S_t, t, f_a, f_v), or ε without the sigmoid, at ``map_stride``.

        ``video``: features at strides 32, 16, 8. ``video_stages``: the stages of the video's slots, where
        :meth:`video_stages` has computed them already. ``heard``: the samples whose ``audio`` counts; None: all.
        """
        stages = self.modulate(x_t, t, video, audio, heard)[0] if video_stages is None else (
            self._with_noise(video_stages, x_t, t))
        y = self.fusion(stages)
        return y.sigmoid() if self.is_map else y

    def modulate(
        self,
        x_t: Float[Tensor, "b 1 h w"],
        t: Int[Tensor, " b"],
        video: list[Float[Tensor, "b _ s _ _"]],
        audio: Float[Tensor, "b a s2 h2 w2"] | None,
        heard: Bool[Tensor, " b"] | None = None,
    ) -> tuple[list[Float[Tensor, "b _ _ _ _"]], list[Float[Tensor, "b _ _ _"] | None]]:
        """Every stage's output and its audio-visual interaction, coarse to fine."""
        noise = self.noise(x_t, self.time_embedding(t))
        scales = [  # channels last in memory: pictures and tokens are then two views of the same
            torch.cat([f, n[:, :, None]], dim=2).contiguous(memory_format=torch.channels_last_3d)
            for f, n in zip(video, noise, strict=False)
        ]
        x, outputs, interactions = None, [], []
        for index, stage in enumerate(self.stages):
            x, interaction = stage(x, scales[index] if index < len(scales) else None, audio, heard)
            outputs.append(x)
            interactions.append(interaction)
        return outputs, interactions

    def video_stages(self, features: list[Float[Tensor, "b _ s _ _"]], audio: Tensor | None) -> list[Tensor] | None:
        """Every stage's output for the video's slots, if it is the same at every step; else None.

        Slots meet in the audio-visual interaction alone (and in attention that spans the window): without it, noise and
        timestep reach no slot but their own. Slots that the fusion does not look at are left out.
        """
        heard = audio is not None and any(s.align is not None for s in self.stages)
        if not self.keeps_video_apart or self.spans_window or heard:
            return None
        return self._stages([x[:, :, : self.fusion.fused_slots] for x in features])

    def _with_noise(self, video_stages: list[Tensor], x_t: Tensor, t: Tensor) -> list[Tensor]:
        """The stages' outputs with the noise's slot behind those of the video, if the fusion looks at it."""
        if video_stages[0].shape[2] >= self.fusion.fused_slots:
            return video_stages
        noise = self._stages([x[:, :, None] for x in self.noise(x_t, self.time_embedding(t))])
        return [torch.cat(pair, dim=2) for pair in zip(video_stages, noise, strict=True)]

    def _stages(self, scales: list[Float[Tensor, "b _ s _ _"]]) -> list[Float[Tensor, "b _ s _ _"]]:
        x, outputs = None, []
        for index, stage in enumerate(self.stages):
            scale = scales[index].contiguous(memory_format=torch.channels_last_3d) if index < len(scales) else None
            x, _ = stage(x, scale, None)
            outputs.append(x)
        return outputs
