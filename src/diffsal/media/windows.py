"""Which frames belong to a frame's window."""

from __future__ import annotations

from diffsal.config import CLIP_FRAMES


def window_indices(index: int, num_frames: int, clip_frames: int = CLIP_FRAMES) -> list[int]:
    """The ``clip_frames`` frames around frame ``index``, which stands in their middle (the 9th of 16).

    At a video's ends its first and last frames repeat. Raises ``ValueError`` for a frame that the video lacks.
    """
    if not 0 <= index < num_frames:
        raise ValueError(f"frame {index} is not in a video of {num_frames} frames")
    first = index - clip_frames // 2
    return [min(max(i, 0), num_frames - 1) for i in range(first, first + clip_frames)]
