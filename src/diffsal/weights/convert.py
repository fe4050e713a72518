"""Checkpoints of others → ours: the released DiffSal, and pretrained encoders (Kinetics, ImageNet, AudioSet)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from diffsal.config import AUDIO_VISUAL_MEAN, ModelConfig, Preprocessing
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.networks.encoders import AUDIO_ENCODERS, VIDEO_ENCODERS, efficientnet_lite, i3d, mvit
from diffsal.weights.files import STATISTICS, read_metadata, save, save_tensors
from diffsal.weights.metadata import ENCODER_KEY, KIND_KEY, PREPROCESSING_KEY, UNUSED_KEY, Unused, sha256_of
from diffsal.weights.torch_files import is_safetensors, read_checkpoint, strip_wrappers

KINETICS_CLASSES, IMAGENET_CLASSES = "Kinetics-400's classifier", "ImageNet's classifier"
VGGISH_CLASSES = "VGGish's classifier: the network takes its convolutions only"

# The released names, then ours; # stands for a number. The first that fits is taken (unet.py's docstring).
_STAGE = "decoder_net.invpt_decoder.mid_stages.#"
RELEASED_NAMES = (
    ("visual_net", "video_encoder"),
    ("audio_net.features", "audio_encoder.features"),
    ("spatiotemp_net.transformer", "audio_encoder.transformer"),
    ("decoder_net.temb.dense.0", "unet.time_embedding.fc1"),
    ("decoder_net.temb.dense.1", "unet.time_embedding.fc2"),
    ("decoder_net.conv_in", "unet.noise.conv_in"),
    ("decoder_net.down1.conv", "unet.noise.down"),
    ("decoder_net.res_encoder.#.0.temb_proj", "unet.noise.blocks.#.time"),
    ("decoder_net.res_encoder.#.0.nin_shortcut", "unet.noise.blocks.#.shortcut"),
    ("decoder_net.res_encoder.#.0", "unet.noise.blocks.#"),
    ("decoder_net.res_encoder.#.1.conv", "unet.noise.downs.#"),
    (f"{_STAGE}.patch_embed.0.proj", "unet.stages.#.upsample"),
    *((f"{_STAGE}.blocks.0.attn.conv_proj_{x[0]}.conv", f"unet.stages.#.attention.{x}.conv")
      for x in ("query", "key", "value")),
    *((f"{_STAGE}.blocks.0.attn.conv_proj_{x[0]}.bn", f"unet.stages.#.attention.{x}.norm")
      for x in ("query", "key", "value")),
    *((f"{_STAGE}.blocks.0.attn.proj_{x[0]}", f"unet.stages.#.attention.{x}.linear")
      for x in ("query", "key", "value")),
    (f"{_STAGE}.blocks.0.attn.proj", "unet.stages.#.attention.out"),
    (f"{_STAGE}.blocks.0.align_conv", "unet.stages.#.align"),
    (f"{_STAGE}.blocks.0.norm2", "unet.stages.#.norm2"),
    (f"{_STAGE}.blocks.0.norm", "unet.stages.#.norm1"),
    (f"{_STAGE}.blocks.0.mlp", "unet.stages.#.mlp"),
    ("decoder_net.invpt_decoder.norm_mts.#", "unet.fusion.norms.#"),
    ("decoder_net.invpt_decoder.redu_chan_up.#.proj.0", "unet.fusion.reduce.#"),
    ("decoder_net.invpt_decoder.mt_proj", "unet.fusion.project"),
    ("decoder_net.logits.linear_pred", "unet.fusion.predict"),
)
RELEASED_UNUSED = (
    ("audio_net.embeddings", VGGISH_CLASSES),
    ("spatiotemp_net.to_patch_embedding", "computed and thrown away"),
    ("spatiotemp_net.pos_embedding", "computed and thrown away"),
    ("fc", "never called"),
)
SILENT_UNUSED = (*RELEASED_UNUSED, (f"{_STAGE}.blocks.0.align_conv", "aligns the sound, and this network has none"))
REDUCTION = "decoder_net.invpt_decoder.redu_chan_up.{}.proj.0.weight"


# What the sources normalised by, on [0, 1]; sound is each audio encoder's own log-mel (audio.py)
KINETICS = Preprocessing((0.45,) * 3, (0.225,) * 3)  # MViT, torchvision's and mmaction2's
TORCHVISION_S3D = Preprocessing((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
HARA = Preprocessing(AUDIO_VISUAL_MEAN, (1 / 255,) * 3)  # means alone taken off 0-255
ONE_TO_MINUS_ONE = Preprocessing((0.5,) * 3, (0.5,) * 3)
IMAGENET = Preprocessing()
LITE = Preprocessing((127 / 255,) * 3, (128 / 255,) * 3)


@dataclass(frozen=True)
class Source:
    """A layout of encoder checkpoints. ``signature`` are names that tell it from the others, ``new`` the prefixes of
    ours that it may have nothing for: they stay as they are initialised."""

    title: str
    encoder: str
    signature: tuple[str, ...]
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    unused: tuple[tuple[str, str], ...] = ()
    new: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class Conversion:
    """What became of a checkpoint: what it is, how many parameters were taken, what was left and why."""

    title: str
    parameters: int
    unused: tuple[Unused, ...]


SCALE_NORMS = ("norm0.", "norm1.", "norm2.")
MIXING = ("mixes.", "motion.", "motion_down.")
SOURCES = (
    Source(
        "torchvision mvit_v2_s", "mvit_v2_s", ("conv_proj.weight", "pos_encoding.class_token"),
        mvit.from_torchvision, (("head", KINETICS_CLASSES),), SCALE_NORMS, KINETICS,
    ),
    Source(
        "mmaction2 mvit-small", "mvit_v2_s", ("backbone.patch_embed.projection.weight", "backbone.cls_token"),
        lambda state: swap_prefix(state, "backbone.", ""), (("cls_head", KINETICS_CLASSES),), SCALE_NORMS, KINETICS,
    ),
    Source(
        "torchvision s3d", "s3d", ("features.0.0.0.weight", "features.15.branch0.0.weight"),
        unused=(("classifier", KINETICS_CLASSES),), preprocessing=TORCHVISION_S3D,
    ),
    Source(
        "Hara's resnet-50-kinetics", "resnet3d_50", ("conv1.weight", "layer1.0.conv3.weight"),
        unused=(("fc", KINETICS_CLASSES),), preprocessing=HARA,
    ),
    Source(
        "DeepMind's I3D in JAX", "i3d", ("params.Conv3d_1a_7x7.Conv_0.kernel",),
        i3d.from_jax, (("params.Logits_Conv3d_0c_1x1", KINETICS_CLASSES),), preprocessing=ONE_TO_MINUS_ONE,
    ),
    Source(
        "torchvision mobilenet_v2", "mobilenet_v2", ("features.0.0.weight", "features.1.conv.0.0.weight"),
        unused=(("features.18", "above the scales that are used"), ("classifier", IMAGENET_CLASSES)),
        new=MIXING, preprocessing=IMAGENET,
    ),
    Source(
        "lukemelas's efficientnet-lite0", "efficientnet_lite0",
        ("_conv_stem.weight", "_blocks.15._project_conv.weight"), efficientnet_lite.from_lukemelas,
        (("_conv_head", "above the scales that are used"), ("_bn1", "above the scales that are used"),
         ("_fc", IMAGENET_CLASSES)),
        MIXING, LITE,
    ),
    Source(
        "torchvggish", "vggish", ("features.0.weight", "embeddings.0.weight"),
        unused=(("embeddings", VGGISH_CLASSES), ("pproc", "post-processing of VGGish's embeddings")),
        new=("transformer.",),
    ),
    Source(
        "YAMNet", "yamnet", ("layers.0.conv.weight", "layers.26.norm.bias"),
        unused=(("classifier", "AudioSet's classifier"),),
    ),
)


def convert(checkpoint: Path, out: Path, half: bool = False, force: bool = False) -> Conversion:
    """Read a checkpoint of a known layout and write it as safetensors of ours, with configuration and provenance.

    A released DiffSal becomes a whole network for :func:`diffsal.load`; a pretrained encoder a file for
    ``diffsal train --init``. ``half`` stores float16. Raises :class:`InputError` for a checkpoint that is damaged,
    unsafe, of no known layout, or that disagrees with its layout: the first name that does is told.
    """
    if out.exists() and not force:
        raise InputError(f"{out}: exists already; give --force to overwrite it")
    state = read_checkpoint(checkpoint)
    origin = {"diffsal.converted_from": checkpoint.name, "diffsal.source_sha256": sha256_of(checkpoint)}
    if is_released(state):
        model, conversion = from_released(state, checkpoint)
        save(model, out, {**_provenance(conversion), **origin}, half)
        return conversion
    source = recognise(state, checkpoint)
    tensors, conversion = encoder_state(source, state, checkpoint)
    origin |= {KIND_KEY: "encoder", ENCODER_KEY: source.encoder}
    if source.preprocessing:
        origin[PREPROCESSING_KEY] = json.dumps(asdict(source.preprocessing))
    save_tensors(tensors, out, {**_provenance(conversion), **origin}, half)
    return conversion


def _provenance(conversion: Conversion) -> dict[str, str]:
    return {"diffsal.source": conversion.title, UNUSED_KEY: json.dumps([asdict(u) for u in conversion.unused])}


def released(state_dict: Mapping[str, Tensor]) -> DiffSal:
    """The released checkpoint's network, oddities included, in eval mode; ``module.`` in front of names is dropped.

    Raises :class:`InputError` naming the first entry that is missing, of another shape or not of that network.
    """
    state = strip_wrappers(dict(state_dict))
    if not is_released(state):
        raise InputError(f"not a released DiffSal: expected visual_net.… and decoder_net.…, got {_some(state)}")
    return from_released(state)[0]


def is_released(state: Mapping[str, Tensor]) -> bool:
    return any(k.startswith("visual_net.") for k in state) and any(k.startswith("decoder_net.") for k in state)


def released_config(state: Mapping[str, Tensor]) -> ModelConfig:
    """With or without sound, how many stages, and the slots that its temporal reduction sees (5, or all nine)."""
    config = ModelConfig.released(sound=any(k.startswith(("audio_net.", "spatiotemp_net.")) for k in state))
    stages = sum(REDUCTION.format(i) in state for i in range(4)) or 4
    reduction = state.get(REDUCTION.format(0))
    all_slots = config.num_frames // 2 + 1
    if reduction is not None and reduction.ndim == 5 and reduction.shape[2] == all_slots:
        config = replace(config, fused_slots=None)
    return replace(config, modulation_stages=stages)


def from_released(state: Mapping[str, Tensor], where: Path | str = "state dict") -> tuple[DiffSal, Conversion]:
    """:func:`released`, and what became of each of the checkpoint's parts; ``where`` begins its errors."""
    config = released_config(state)
    model = DiffSal(config)
    model.spacing = "leading"  # one step is one call at t = 0
    sound = "audio-visual" if config.audio_encoder else "video only"
    slots = "all slots" if config.fused_slots is None else f"{config.fused_slots} slots"
    tensors, unused = take_over(
        model, dict(state), lambda part: {rename(k, RELEASED_NAMES): v for k, v in part.items()},
        RELEASED_UNUSED if config.audio_encoder else SILENT_UNUSED, where=where,
        name_back=lambda ours: rename(ours, tuple((b, a) for a, b in RELEASED_NAMES)),
    )
    return model.eval(), Conversion(f"released DiffSal, {sound}, {slots} fused", count_parameters(tensors), unused)


def recognise(state: Mapping[str, Tensor], where: Path | str) -> Source:
    """The layout whose signature the names bear."""
    for source in SOURCES:
        if all(name in state for name in source.signature):
            return source
    known = ", ".join(["released DiffSal", *(s.title for s in SOURCES)])
    if any(k.startswith(("video_encoder.", "unet.")) for k in state):
        raise InputError(f"{where}: is a diffsal file already: use it as it is")
    raise InputError(f"{where}: of no known layout: its names begin with {_some(state)}; known are {known}")


def encoder_state(source: Source, state: dict[str, Tensor], where: Path | str) -> tuple[dict[str, Tensor], Conversion]:
    """The state dict of the encoder that ``source`` is for; without what the source has nothing for."""
    encoder = {**VIDEO_ENCODERS, **AUDIO_ENCODERS}[source.encoder]()
    tensors, unused = take_over(encoder, state, source.rename, source.unused, source.new, where)
    return tensors, Conversion(source.title, count_parameters(tensors), unused)


def load_encoder(model: DiffSal, path: Path) -> str:
    """A pretrained encoder into ``model``: a file that :func:`convert` wrote, or a checkpoint that it would take.

    Returns what the checkpoint is. Raises :class:`InputError` where ``model`` has no such encoder.
    """
    state = read_checkpoint(path)
    metadata = read_metadata(path) if is_safetensors(path) else {}
    if metadata.get(KIND_KEY) == "encoder":
        source = own_source(metadata.get(ENCODER_KEY, ""), path)
    else:
        source = recognise(state, path)
    for part in (model.video_encoder, model.audio_encoder):
        if type(part) is {**VIDEO_ENCODERS, **AUDIO_ENCODERS}[source.encoder]:
            take_over(part, state, source.rename, source.unused, source.new, path)
            return source.title
    wanted = ", ".join(filter(None, (model.config.video_encoder, model.config.audio_encoder)))
    raise InputError(f"{path}: is a {source.encoder}, and this network's encoders are {wanted}")


def own_source(encoder: str, where: Path) -> Source:
    """The layout of files that :func:`convert` wrote for an encoder."""
    new = next((s.new for s in SOURCES if s.encoder == encoder), None)
    if new is None:
        raise InputError(f"{where}: holds a {encoder or 'nameless encoder'}, which this diffsal does not know")
    return Source(f"converted {encoder}", encoder, (), new=new)


def take_over(
    model: nn.Module,
    state: dict[str, Tensor],
    rename_state: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    unused: tuple[tuple[str, str], ...] = (),
    new: tuple[str, ...] = (),
    where: Path | str = "state dict",
    name_back: Callable[[str], str] = str,
) -> tuple[dict[str, Tensor], tuple[Unused, ...]]:
    """``state`` into ``model``, strictly; what was taken, under our names, and what was left out and why."""
    placed, theirs, left = {}, {}, dict.fromkeys((prefix for prefix, _ in unused), 0)
    for name, value in state.items():
        prefix = next((p for p, _ in unused if matches(name, p)), None)
        if prefix is not None:
            left[prefix] += 0 if name.endswith(STATISTICS) else value.numel()
            continue
        for ours, tensor in rename_state({name: value}).items():
            placed[ours], theirs[ours] = tensor, name
    wanted = {k: v for k, v in model.state_dict().items() if k in placed or not k.startswith(new)}
    for ours, value in wanted.items():
        if ours in placed:
            placed[ours] = fit(placed[ours], value, ours, f"{where}: {theirs[ours]}")
        elif ours.endswith("num_batches_tracked"):  # a counter that only training uses; many files leave it out
            placed[ours] = value
        else:
            raise InputError(f"{where}: has no {name_back(ours)}: cut short, or of another network")
    unknown = next((theirs[k] for k in placed if k not in wanted), None)
    if unknown:
        raise InputError(f"{where}: {unknown} has no place in this network: of another network, or a newer one")
    model.load_state_dict(placed, strict=not new)
    return placed, tuple(Unused(p.replace("#", "*"), left[p], why) for p, why in unused if left[p])


def fit(value: Tensor, wanted: Tensor, name: str, what: str) -> Tensor:
    """``value`` of the type of ``wanted``; a table of relative positions resized, any other shape refused."""
    if ".rel_pos_" in name and value.ndim == 2 and len(value) != len(wanted):
        value = F.interpolate(value.float().T[None], len(wanted), mode="linear")[0].T
    if value.shape != wanted.shape:
        raise InputError(f"{what} is {list(value.shape)}, expected {list(wanted.shape)} ({name}): of another network")
    return value.to(wanted.dtype)


def count_parameters(tensors: Mapping[str, Tensor]) -> int:
    return sum(v.numel() for k, v in tensors.items() if not k.endswith(STATISTICS))


def rename(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """``name`` with the first prefix of ``pairs`` that fits replaced by its partner; else as it is."""
    for prefix, ours in pairs:
        match = _pattern(prefix).match(name)
        if match:
            return ours.replace("#", match[1] if match.groups() else "#") + name[match.end() :]
    return name


def matches(name: str, prefix: str) -> bool:
    """Whether ``name`` is ``prefix`` or below it; # stands for a number."""
    return _pattern(prefix).match(name) is not None


def _pattern(prefix: str) -> re.Pattern[str]:
    return re.compile(re.escape(prefix).replace(r"\#", r"(\d+)") + r"(?=\.|$)")


def swap_prefix(state: dict[str, Tensor], prefix: str, other: str) -> dict[str, Tensor]:
    """Names that begin with ``prefix`` begin with ``other``."""
    return {other + k.removeprefix(prefix) if k.startswith(prefix) else k: v for k, v in state.items()}


def _some(state: Mapping[str, Tensor]) -> str:
    return ", ".join(list(state)[:3]) or "nothing"
