"""LR-ASD, which tells from a face and the sound whether that face speaks (Liao et al., IJCV 2025; weights: MIT).

Written from a description of the network; the names are those of the authors' checkpoint ``pretrain_AVA.model``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WIDTHS = (32, 64, 128)
NORM_EPSILON = 1e-3  # of all batch norms
GRU_WIDTH = 64
GREY_MEAN, GREY_STD = 0.4161, 0.1688  # of AVA's faces in [0, 1]


class FaceBlock(nn.Module):
    """Two convolutions over the picture and two over time."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        half = width // 2
        self.s_1 = nn.Conv3d(channels, half, (1, 5, 5), (1, stride, stride), (0, 2, 2), bias=False)
        self.s_2 = nn.Conv3d(half, width, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.t_1 = nn.Conv3d(width, width, (5, 1, 1), padding=(2, 0, 0), bias=False)
        self.t_2 = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.s_norm_1 = nn.BatchNorm3d(half, NORM_EPSILON)
        self.s_norm_2, self.t_norm_1, self.t_norm_2 = (nn.BatchNorm3d(width, NORM_EPSILON) for _ in range(3))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t h2 w2"]:
        x = F.relu(self.s_norm_1(self.s_1(x)))
        x = F.relu(self.s_norm_2(self.s_2(x)))
        x = F.relu(self.t_norm_1(self.t_1(x)))
        return F.relu(self.t_norm_2(self.t_2(x)))


class FaceEncoder(nn.Module):
    """(b, t, 112, 112) normalised grey faces → (b, t, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = FaceBlock(1, WIDTHS[0], stride=2)
        self.block2 = FaceBlock(WIDTHS[0], WIDTHS[1], stride=1)
        self.block3 = FaceBlock(WIDTHS[1], WIDTHS[2], stride=1)

    def forward(self, faces: Float[Tensor, "b t h w"]) -> Float[Tensor, "b t 128"]:
        x = self.block1(faces[:, None])
        x = self.block2(F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1)))
        x = self.block3(F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1)))
        return x.amax(dim=(3, 4)).transpose(1, 2)


class SoundBlock(nn.Module):
    """Two convolutions over the coefficients and two over time."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.m_1 = nn.Conv2d(channels, half, (5, 1), padding=(2, 0), bias=False)
        self.m_2 = nn.Conv2d(half, width, (3, 1), padding=(1, 0), bias=False)
        self.t_1 = nn.Conv2d(width, width, (1, 5), padding=(0, 2), bias=False)
        self.t_2 = nn.Conv2d(width, width, (1, 3), padding=(0, 1), bias=False)
        self.m_norm_1 = nn.BatchNorm2d(half, NORM_EPSILON)
        self.m_norm_2, self.t_norm_1, self.t_norm_2 = (nn.BatchNorm2d(width, NORM_EPSILON) for _ in range(3))

    def forward(self, x: Float[Tensor, "b c m t"]) -> Float[Tensor, "b c2 m t"]:
        x = F.relu(self.m_norm_1(self.m_1(x)))
        x = F.relu(self.m_norm_2(self.m_2(x)))
        x = F.relu(self.t_norm_1(self.t_1(x)))
        return F.relu(self.t_norm_2(self.t_2(x)))


class SoundEncoder(nn.Module):
    """(b, 4 t, 13) MFCCs → (b, t, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = SoundBlock(1, WIDTHS[0])
        self.block2 = SoundBlock(WIDTHS[0], WIDTHS[1])
        self.block3 = SoundBlock(WIDTHS[1], WIDTHS[2])

    def forward(self, mfcc: Float[Tensor, "b t4 13"]) -> Float[Tensor, "b t 128"]:
        x = self.block1(mfcc.transpose(1, 2)[:, None])
        x = self.block2(F.max_pool2d(x, (1, 3), (1, 2), (0, 1)))
        x = self.block3(F.max_pool2d(x, (1, 3), (1, 2), (0, 1)))
        return x.mean(dim=2).transpose(1, 2)


class Gate(nn.Module):
    """x times the sigmoid of a normalised 1x1 convolution of itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Conv1d(width, width, 1, bias=False)
        self.bn = nn.BatchNorm1d(width, NORM_EPSILON)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        return x * self.bn(self.attention(x.transpose(1, 2))).sigmoid().transpose(1, 2)


class Detector(nn.Module):
    """Two GRUs, one forwards and one backwards over the forward one's output, side by side, and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gru_forward = nn.GRU(2 * WIDTHS[-1], GRU_WIDTH, batch_first=True)
        self.gru_backward = nn.GRU(2 * WIDTHS[-1], GRU_WIDTH, batch_first=True)
        self.attention = Gate(2 * GRU_WIDTH)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t 128"]:
        ahead, _ = self.gru_forward(x)
        back, _ = self.gru_backward(x.flip(1))
        return self.attention(torch.cat([ahead, back.flip(1)], dim=2))


class LRASD(nn.Module):
    """A face track and its sound → (b, t, 2): logits for silent and speaking, 25 a second.

    The score of a moment is logit 1 less logit 0, positive while the face speaks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.visualEncoder, self.audioEncoder = FaceEncoder(), SoundEncoder()
        self.fusion, self.detector = Gate(2 * WIDTHS[-1]), Detector()
        self.head = nn.Linear(2 * GRU_WIDTH, 2)

    def forward(self, faces: Float[Tensor, "b t 112 112"], mfcc: Float[Tensor, "b t4 13"]) -> Float[Tensor, "b t 2"]:
        """``faces``: grey, normalised by ``GREY_MEAN`` and ``GREY_STD``; ``mfcc``: four rows for each of them."""
        return self.decide(self.visualEncoder(faces), self.audioEncoder(mfcc))

    def decide(self, faces: Float[Tensor, "b t 128"], sound: Float[Tensor, "b t 128"]) -> Float[Tensor, "b t 2"]:
        """The logits from both encoders' outputs."""
        return self.head(self.detector(self.fusion(torch.cat([sound, faces], dim=2))))
