"""A clip with its sound moved round: a control, as loud as the clip's own and at the wrong moment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffsal.media.mel import SAMPLE_RATE, Sound
from diffsal.media.source import Source


@dataclass(eq=False)
class ShiftedSound(Source):
    """The same clip with its sound moved round by ``shift_seconds``: at every moment, another moment's sound."""

    shift_seconds: float = 0.0

    def sound(self, rate: int | None = SAMPLE_RATE) -> Sound | None:
        own = super().sound(rate)
        return own and replace(own, waveform=np.roll(own.waveform, -round(self.shift_seconds * own.rate)))
