"""What a file of weights holds: parts, their parameters and arithmetic, preprocessing, provenance, scores."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffsal.config import ModelConfig, Preprocessing
from diffsal.media.mel import window_shape
from diffsal.networks.diffsal import DiffSal
from diffsal.weights.catalogue import find, provenance
from diffsal.weights.files import STATISTICS, check_shapes, planned, read_metadata, read_shapes, read_tensors
from diffsal.weights.metadata import (
    ENCODER_KEY,
    KIND_KEY,
    PREPROCESSING_KEY,
    UNUSED_KEY,
    Unused,
    config_of,
    sha256_of,
    told,
)

PARTS = {
    "video encoder": "video_encoder", "audio encoder": "audio_encoder", "adapters": "adapters",
    "time embedding": "unet.time_embedding", "noise branch": "unet.noise", "modulation stages": "unet.stages",
    "fusion": "unet.fusion",
}
COUNTED_BY_THE_PAPER = ("convolution", "addmm", "mm")  # convolutions and linear layers; attention's products are bmm


@dataclass(frozen=True)
class Part:
    """A piece of the network. Multiply-accumulates are for one window and one denoising step.

    ``multiply_accumulates`` counts convolutions and all matrix products; ``paper_multiply_accumulates`` leaves out the
    products inside attention, as the paper's counter did (REFERENCE.md, section 1).
    """

    name: str
    parameters: int
    multiply_accumulates: int = 0
    paper_multiply_accumulates: int = 0


@dataclass(frozen=True)
class Information:
    """Everything that ``diffsal info`` tells about one file of weights; ``config`` None: an encoder alone."""

    name: str
    file: str
    sha256: str
    config: ModelConfig | None
    preprocessing: Preprocessing | None
    parts: tuple[Part, ...]
    unused: tuple[Unused, ...]
    provenance: dict[str, str]
    scores: dict[str, float]

    @property
    def total(self) -> Part:
        sums = (sum(getattr(p, key) for p in self.parts) for key in asdict(self.parts[0]) if key != "name")
        return Part("in all", *sums)

    def to_dict(self) -> dict[str, Any]:
        """For JSON. ``parameters_with_unused`` counts as the source does."""
        values = asdict(self)
        total = self.total
        values["total"] = asdict(total)
        values["parameters_with_unused"] = total.parameters + sum(u.parameters for u in self.unused)
        if self.config is not None:
            del values["config"]["preprocessing"]
        return values


def describe(name: str | Path = "compact") -> Information:
    """What is known about a catalogue name or a file. Raises :class:`InputError` as :func:`diffsal.load` does."""
    path = find(name)
    metadata = read_metadata(path)
    if metadata.get(KIND_KEY) == "encoder":
        config, parts = None, encoder_parts(path, metadata.get(ENCODER_KEY, "encoder"))
        preprocessing = encoder_preprocessing(metadata, path)
    else:
        config = config_of(metadata, path)
        parts, preprocessing = count_parts(config), config.preprocessing
        check_shapes(planned(config, path), read_shapes(path), path)
    origin, scores = provenance(name, metadata)
    with told(path, "list of unused parameters"):
        unused = tuple(Unused(**values) for values in json.loads(metadata.get(UNUSED_KEY, "[]")))
    return Information(str(name), str(path), sha256_of(path), config, preprocessing, parts, unused, origin, scores)


def encoder_parts(path: Path, encoder: str) -> tuple[Part, ...]:
    """The one part of a file that holds a pretrained encoder."""
    state = read_tensors(path)
    return (Part(encoder, sum(v.numel() for k, v in state.items() if not k.endswith(STATISTICS))),)


def encoder_preprocessing(metadata: dict[str, str], path: Path) -> Preprocessing | None:
    """What the pictures of a pretrained video encoder were normalised by; None for sound."""
    if PREPROCESSING_KEY not in metadata:
        return None
    with told(path, "preprocessing"):
        return Preprocessing(**json.loads(metadata[PREPROCESSING_KEY]))


class _Step(nn.Module):
    """One window, one call of the denoising network: what the counter runs."""

    def __init__(self, model: DiffSal) -> None:
        super().__init__()
        self.model = model

    def forward(self, video, mel, x_t, t):
        return self.model.denoise(x_t, t, self.model.encode(video, mel))


def count_parts(config: ModelConfig) -> tuple[Part, ...]:
    """Parameters and multiply-accumulates of ``config``'s network, counted on shapes alone: nothing is computed."""
    with torch.device("meta"):
        model = DiffSal(config).eval()
        if hasattr(model.video_encoder, "use_plain"):  # the fast formulation multiplies by zeros, too
            model.video_encoder.use_plain(True)
        video = torch.zeros(1, 3, config.num_frames, config.height, config.width)
        mel = torch.zeros(1, *window_shape(config.audio_encoder)) if config.audio_encoder else None
        x_t, t = torch.zeros(1, 1, config.height, config.width), torch.zeros(1, dtype=torch.int64)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        _Step(model)(video, mel, x_t, t)
    counts = counter.get_flop_counts()
    parts = []
    for name, module in PARTS.items():
        try:
            parameters = sum(p.numel() for p in model.get_submodule(module).parameters())
        except AttributeError:  # a network without sound has no audio encoder
            continue
        if parameters:
            parts.append(Part(name, parameters, *_multiply_accumulates(counts, f"_Step.model.{module}")))
    return tuple(parts)


def _multiply_accumulates(counts: dict, module: str) -> tuple[int, int]:
    """All, and the paper's. A list of modules is never called itself: its members are added up."""
    depth = module.count(".") + 1
    names = [module] if module in counts else [n for n in counts if n.startswith(module) and n.count(".") == depth]
    operations = [(str(op).removeprefix("aten."), n) for name in names for op, n in counts[name].items()]
    paper = sum(n for op, n in operations if op.split(".")[0] in COUNTED_BY_THE_PAPER)
    return sum(n for _, n in operations) // 2, paper // 2


def tables(information: Information) -> RenderableType:
    """The same for a terminal."""
    parts = Table(box=box.SIMPLE, title=f"{information.name}  {information.file}", title_justify="left")
    for column in ("part", "parameters", "G multiply-acc.", "as the paper counts"):
        parts.add_column(column, justify="left" if column == "part" else "right")
    for part in (*information.parts, information.total):
        giga = (f"{n / 1e9:.2f}" if information.config else "" for n in
                (part.multiply_accumulates, part.paper_multiply_accumulates))
        parts.add_row(part.name, f"{part.parameters:,}", *giga, style="bold" if part.name == "in all" else None)
    if information.unused:
        for unused in information.unused:
            parts.add_row(f"not taken over: {unused.name}", f"{unused.parameters:,}", style="dim")
        with_unused = information.to_dict()["parameters_with_unused"]
        parts.add_row("as its source counts", f"{with_unused:,}")
    facts = Table(box=box.SIMPLE, show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for key, value in {**_input(information), **information.provenance}.items():
        facts.add_row(key, str(value))
    facts.add_row("SHA-256", information.sha256)
    for name, score in information.scores.items():
        facts.add_row(name, f"{score:.3f}")
    return Group(parts, facts)


def _input(information: Information) -> dict[str, str]:
    config, preprocessing = information.config, information.preprocessing
    rows: dict[str, str] = {}
    if config is not None:
        sound = f"{config.audio_encoder}, cut by {config.preprocessing.sound}" if config.audio_encoder else "none"
        rows |= {
            "network": f"{config.video_encoder}, {config.modulation_stages} modulation stages",
            "input": f"{config.num_frames} frames, {config.height}x{config.width}, RGB in [0, 1]",
            "sound": sound,
        }
    if preprocessing is not None:
        mean, std = (" ".join(f"{v:.4f}" for v in values) for values in (preprocessing.mean, preprocessing.std))
        rows["normalised by"] = f"mean {mean}, std {std}"
    return rows
