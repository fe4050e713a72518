"""Widths of Inception-v1's nine mixed blocks (Szegedy et al. 2015, table 1), which S3D and I3D inflate in time."""

from __future__ import annotations

from typing import NamedTuple


class Mixed(NamedTuple):
    """Channels of one block's branches: 1x1; 1x1 then 3x3; 1x1 then 3x3; 1x1 after a pool."""

    point: int
    reduce_1: int
    conv_1: int
    reduce_2: int
    conv_2: int
    pooled: int

    @property
    def channels(self) -> int:
        return self.point + self.conv_1 + self.conv_2 + self.pooled


MIXED = {
    "3b": Mixed(64, 96, 128, 16, 32, 32),
    "3c": Mixed(128, 128, 192, 32, 96, 64),
    "4b": Mixed(192, 96, 208, 16, 48, 64),
    "4c": Mixed(160, 112, 224, 24, 64, 64),
    "4d": Mixed(128, 128, 256, 24, 64, 64),
    "4e": Mixed(112, 144, 288, 32, 64, 64),
    "4f": Mixed(256, 160, 320, 32, 128, 128),
    "5b": Mixed(256, 160, 320, 32, 128, 128),
    "5c": Mixed(384, 192, 384, 48, 128, 128),
}
STEM_WIDTHS = (64, 64, 192)  # of the three convolutions before the mixed blocks
