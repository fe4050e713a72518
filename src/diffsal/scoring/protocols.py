"""How each benchmark prepares maps, draws negatives and averages: one map's scores can differ by 0.04 AUC between them.

A :class:`Protocol` is a table row: :func:`score_frame` does what it says with one frame. docs/metrics.md explains
each of them to someone whose number disagrees with a paper's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from scipy import ndimage

from diffsal.data.truth import SIGMA_FRACTION, blur
from diffsal.scoring.metrics import auc_borji, auc_judd, auc_shuffled, cc, information_gain, kld, nss, sim
from diffsal.scoring.resizing import resize_bicubic, resize_linear, resize_spline

METRICS = ("CC", "SIM", "NSS", "KLD", "IG", "AUC-J", "AUC-B", "sAUC")
LOWER_IS_BETTER = ("KLD",)
RELEASED_SIZE = (224, 384)  # height and width of the released network's maps
NUM_OTHER_FRAMES = 10  # whose fixations are the negatives, where they come from other clips
Prepare = Callable[[Shaped[np.ndarray, "h w"], int, int], np.ndarray]


@dataclass(frozen=True)
class Protocol:
    """``prepare(map, height, width)`` gives the prediction at the ground truth's size, ``prepare_nss`` that for NSS.

    ``negatives`` of sAUC: ``clips``, ten random frames of other clips; ``set``, ten random frames of the set; ``clip``,
    all other frames of the clip; ``clip_elsewhere``, all frames of the clip without the pixels that this one fixates;
    None, no sAUC. ``average``: over ``frames``, or over frames and then ``videos``.
    ``every`` and ``least_fixations`` choose a video's frames; ``drawn``: the ground truth is drawn from the fixations.
    ``at_network``: ``prepare`` works on the network's own pixels, so that a larger map is first brought back to them.
    ``as_matlab``: a constant map scores what MATLAB's divisions by zero give. ``leaves_ends_out``: short clips and the
    ends of long ones are not scored, as the database's record says.
    """

    name: str
    words: str
    prepare: Prepare
    metrics: tuple[str, ...] = METRICS
    average: Literal["frames", "videos"] = "videos"
    negatives: Literal["clips", "set", "clip", "clip_elsewhere"] | None = None
    jitter: bool = False
    counted: bool = False
    prepare_nss: Prepare | None = None
    single_precision: bool = False
    drawn: bool = False
    every: int = 1
    least_fixations: int = 0
    at_network: bool = False
    as_matlab: bool = False
    leaves_ends_out: bool = False
    constant_sim: float | None = None  # what SIM gives a constant map; None: as diffsal.scoring.metrics does


@dataclass(frozen=True, eq=False)
class FrameTruth:
    """Where people looked on one frame: the map, how often each pixel was fixated, and the pixels of others."""

    saliency_map: Float[np.ndarray, "h w"]
    fixations: Int[np.ndarray, "h w"]
    negatives: Bool[np.ndarray, "h w"] | None = None


def score_frame(
    protocol: Protocol, saliency: Shaped[np.ndarray, "_ _"], truth: FrameTruth, seed: int = 0,
    jitter: bool | None = None, network_size: tuple[int, int] | None = None,
) -> dict[str, float]:
    """The protocol's metrics of one map, in [0, 1] and of any size, NaN where they are not defined.

    ``seed`` is that of the jitter and of the sampled AUCs; ``jitter`` overrides the protocol's. ``network_size``:
    height and width at which the network made the map, where that matters and the map has another size.
    """
    h, w = truth.saliency_map.shape
    if protocol.at_network and network_size is not None:
        saliency = resize_linear(saliency, *network_size)
    precision = np.float32 if protocol.single_precision else np.float64
    prepared = protocol.prepare(saliency, h, w)
    p = torch.from_numpy(np.ascontiguousarray(prepared, precision))
    for_nss = torch.from_numpy(protocol.prepare_nss(saliency, h, w)) if protocol.prepare_nss else p
    g, f = torch.from_numpy(truth.saliency_map), torch.from_numpy(truth.fixations)
    generator = torch.Generator().manual_seed(seed)
    shaken = protocol.jitter if jitter is None else jitter
    binary = f != 0
    functions = {
        "CC": lambda: cc(p, g),
        "SIM": lambda: _sim(protocol, p, g),
        "NSS": lambda: nss(for_nss, f, protocol.counted),
        "KLD": lambda: kld(p.clamp(min=0), g),  # bicubic resizing undershoots
        "IG": lambda: information_gain(p, binary, torch.from_numpy(centre_prior(h, w))),
        "AUC-J": lambda: auc_judd(p, f, shaken, protocol.counted, generator),
        "AUC-B": lambda: auc_borji(p, binary, generator=generator),
        "sAUC": lambda: _shuffled(p, binary, truth.negatives, generator),
    }
    found = {name: float(functions[name]()) for name in protocol.metrics}
    return {**found, **_as_matlab(protocol, saliency)} if protocol.as_matlab and not np.ptp(saliency) else found


def _as_matlab(protocol: Protocol, saliency: np.ndarray) -> dict[str, float]:
    """What the MIT code gives a constant map: 0 / 0 wherever it standardises or stretches, but a zero map stays one.

    STAViS's post-processing divides a zero map by its maximum before that.
    """
    nan = float("nan")
    scores = {"CC": nan, "SIM": nan, "NSS": nan, "IG": nan, "AUC-B": nan, "sAUC": nan}
    if not saliency.any():
        scores |= {"AUC-J": nan} if protocol.at_network else {"SIM": 0.0}
    return scores


def _sim(protocol: Protocol, p: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    if protocol.constant_sim is not None and p.min() == p.max():
        return torch.tensor(protocol.constant_sim)
    return sim(p, g)


def _shuffled(p: torch.Tensor, fixated: torch.Tensor, negatives: np.ndarray | None, generator) -> torch.Tensor:
    if negatives is None:
        return torch.tensor(float("nan"))
    return auc_shuffled(p, fixated, torch.from_numpy(negatives), generator=generator)


def seed_of(*names: str | int) -> int:
    """The seed of a frame, from its names: the same however the work is divided."""
    return zlib.crc32("/".join(map(str, names)).encode(errors="surrogateescape"))


@lru_cache(maxsize=4)
def centre_prior(height: int, width: int) -> Float[np.ndarray, "{height} {width}"]:
    """A Gaussian in the middle, σ a fifth of the height and of the width."""
    y, x = np.ogrid[0:height, 0:width]
    return np.exp(-(((x - width / 2) / (width / 5)) ** 2 + ((y - height / 2) / (height / 5)) ** 2) / 2)


def drawn_map(counts: Int[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Ground truth drawn from fixations: blurred with σ = 0.025 of the width."""
    return blur(counts, SIGMA_FRACTION * counts.shape[1])


def min_max(image: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Scaled to [0, 1]; zero where it is constant."""
    low, high = float(image.min()), float(image.max())
    return (np.asarray(image, np.float64) - low) / (high - low if high > low else 1.0)


def stavis_smoothed(saliency: Shaped[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """STAViS's post-processing: 255 times the map, over its maximum, min-max, Gaussian σ = 2 of 13×13, symmetric."""
    scaled = 255.0 * np.asarray(saliency, np.float64)
    return ndimage.gaussian_filter(min_max(scaled / max(scaled.max(), 1e-300)), 2.0, mode="reflect", radius=6)


def _stavis(saliency: np.ndarray, height: int, width: int) -> np.ndarray:
    return resize_bicubic(stavis_smoothed(saliency), height, width)


def _eight_bit(saliency: np.ndarray) -> np.ndarray:
    """As the released code writes a map: at the network's size, stretched, cut down to whole numbers (not rounded)."""
    return np.floor(255 * min_max(resize_linear(saliency, *RELEASED_SIZE))) / 255


def _released(saliency: np.ndarray, height: int, width: int) -> np.ndarray:
    return resize_spline(_eight_bit(saliency), height, width, order=3)


def _released_nss(saliency: np.ndarray, height: int, width: int) -> np.ndarray:
    return resize_spline(_eight_bit(saliency), height, width, order=1)


def _ntire(saliency: np.ndarray, height: int, width: int) -> np.ndarray:
    return resize_linear(min_max(saliency), height, width)


MAP_AND_POINTS = ("CC", "SIM", "NSS", "AUC-J")
PROTOCOLS = {p.name: p for p in (
    Protocol(
        "mit",
        "The MIT benchmark's: prediction resized bicubically to the ground truth (as MATLAB's imresize); each fixated "
        "pixel once; AUC-J with jitter of 1e-7; sAUC against ten random frames of other clips, 100 draws, step 0.1; "
        "a constant map scores NaN as in MATLAB; mean over all frames.",
        resize_bicubic, average="frames", negatives="clips", jitter=True, as_matlab=True,
    ),
    Protocol(
        "dhf1k",
        "DHF1K's: as mit, on maps/*.png over 255 and the fixations of the database; sAUC against ten random frames of "
        "the set; mean over all frames of all videos, not over videos.",
        resize_bicubic, average="frames", negatives="set", jitter=True, as_matlab=True,
    ),
    Protocol(
        "stavis",
        "STAViS's: prediction scaled to its maximum, min-max, blurred (σ = 2 of the network's pixels, 13×13), then "
        "resized bicubically; as mit, but sAUC against all frames of the video without the pixels that this frame "
        "fixates; mean over the frames of a video, then over the test videos of all three splits.",
        _stavis, negatives="clip_elsewhere", jitter=True, at_network=True, as_matlab=True,
    ),
    Protocol(
        "released",
        "The released DiffSal's: prediction at 224×384, min-max, truncated to 8 bits, resized by cubic splines (for "
        "NSS linearly) as scikit-image does; AUC-J with jitter in single precision; without clips under 32 frames of "
        "Hollywood-2 and UCF Sports and without the first 8 and last 24 frames of DHF1K's; mean over a video's frames, "
        "then over videos.",
        _released, MAP_AND_POINTS, jitter=True, prepare_nss=_released_nss, single_precision=True, leaves_ends_out=True,
    ),
    Protocol(
        "ntire",
        "The NTIRE challenge's: prediction min-max, resized bilinearly; a pixel that was fixated several times counts "
        "as often; no jitter; mean over the frames of a video, then over videos.",
        _ntire, MAP_AND_POINTS, counted=True,
    ),
    Protocol(
        "gaze",
        "The gaze layout's: every fifth frame with at least five fixations, all pictures; prediction resized "
        "bilinearly; ground truth drawn with σ = 0.025 of the width; each fixated pixel once; no jitter; sAUC against "
        "all other frames of the clip, of pictures against ten others; mean over frames, then over clips.",
        resize_linear, negatives="clip", drawn=True, every=5, least_fixations=5, constant_sim=float("nan"),
    ),
)}
