"""A network's ONNX graphs in one file, made by torch and checked against it."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer
from torch import Tensor, nn

from diffsal.errors import InputError
from diffsal.files import write_whole
from diffsal.media.mel import window_shape
from diffsal.networks.blocks import pad_same
from diffsal.networks.diffsal import DiffSal
from diffsal.networks.encoders import yamnet
from diffsal.networks.encoders.base import FrameEncoder
from diffsal.networks.encoders.mvit import MViT
from diffsal.runtime.export_pictures import PictureUNet, takes
from diffsal.runtime.graphs import FORMAT
from diffsal.weights.catalogue import find
from diffsal.weights.files import load, read_metadata
from diffsal.weights.metadata import CONFIG_KEY, FINISH_KEY, FORMAT_KEY, SPACING_KEY

OPSET = 18
REWRITTEN = 5000  # operators up to which patterns are looked for: the time grows with their square
FOLDED = 1024  # values of a constant that the exporter computes; larger ones ONNX Runtime computes at load
BATCH = 2  # of the inputs that graphs are traced with; the batch stays free
TOLERANCE = 1e-5  # of a map, between torch and ONNX Runtime


class Pixels(nn.Module):
    """uint8 RGB (…, h, w, 3) → the network's input (…, 3, h, w)."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: DiffSal) -> None:
        super().__init__()
        values = model.config.preprocessing
        self.register_buffer("mean", torch.tensor(values.mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(values.std).view(3, 1, 1) * 255)

    def forward(self, images: UInt8[Tensor, "*n h w 3"]) -> Float[Tensor, "*n 3 h w"]:
        # Along rows: along the three channels ONNX Runtime takes four times as long
        return (images.movedim(-1, -3).float() - self.mean) / self.std


class Frames(nn.Module):
    """Single frames → what a window mixes of them, at strides 8, 16, 32."""

    def __init__(self, model: DiffSal) -> None:
        super().__init__()
        self.pixels, self.encoder = Pixels(model), model.video_encoder

    def forward(self, images: UInt8[Tensor, "n h w 3"]) -> tuple[Tensor, ...]:
        return tuple(self.encoder.frames(self.pixels(images))[1:])


class Conditions(nn.Module):
    """The video encoder's scales → what the denoising takes: features, or stages where no noise reaches them."""

    def __init__(self, model: DiffSal) -> None:
        super().__init__()
        self.model = model

    def forward(self, scales: list[Tensor]) -> tuple[Tensor, ...]:
        video = [adapt(x) for adapt, x in zip(self.model.adapters, reversed(scales), strict=False)]
        return tuple(self.model.unet.video_stages(video, None) or video)


class FrameWindow(nn.Module):
    """A window's brightness and the features of its frames → conditions."""

    def __init__(self, model: DiffSal) -> None:
        super().__init__()
        self.encoder, self.conditions = model.video_encoder, Conditions(model)

    def forward(
        self, brightness: Float[Tensor, "b f h w"], scale_0: Tensor, scale_1: Tensor, scale_2: Tensor
    ) -> tuple[Tensor, ...]:
        return self.conditions(self.encoder.mix([brightness[:, None], scale_0, scale_1, scale_2]))


class VideoWindow(nn.Module):
    """A window's frames → conditions, for encoders that see whole windows."""

    def __init__(self, model: DiffSal) -> None:
        super().__init__()
        self.pixels, self.encoder, self.conditions = Pixels(model), model.video_encoder, Conditions(model)

    def forward(self, images: UInt8[Tensor, "b f h w 3"]) -> tuple[Tensor, ...]:
        return self.conditions(self.encoder(self.pixels(images).movedim(1, 2)))


class Denoise(nn.Module):
    """S_t, t, conditions and sound → what the last layer gives, at the map's own stride."""

    def __init__(self, model: DiffSal, unet: nn.Module | None = None) -> None:
        super().__init__()
        self.unet, self.has_stages = unet or model.unet, has_stages(model)
        self.sees_nothing, self.adds = model.config.predicts == "map", model.config.audio_key == "add"

    def forward(
        self, x_t: Float[Tensor, "b 1 h w"], t: Int[Tensor, " b"], conditions: list[Tensor],
        audio: Float[Tensor, "b a s h2 w2"] | None = None, heard: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b 1 h3 w3"]:
        if self.sees_nothing:
            x_t, t = x_t * 0, t * 0
        if self.has_stages:
            return self.unet(x_t, t, [], None, conditions)
        if heard is not None and audio is not None and self.adds:
            audio, heard = torch.where(heard[:, None, None, None, None], audio, torch.zeros_like(audio)), None
        return self.unet(x_t, t, conditions, audio, heard=heard)


def picture_layout(model: DiffSal) -> Denoise | None:
    """:class:`Denoise` in pictures, where that knows all that the network does."""
    return Denoise(model, PictureUNet(model.unet)) if takes(model.unet) and not has_stages(model) else None


def has_stages(model: DiffSal) -> bool:
    """Whether conditions are the UNet's stages: without sound, noise reaches no slot but its own."""
    return model.audio_encoder is None


@dataclass(frozen=True)
class Part:
    """One graph to be: its module, its inputs by name, the names of its outputs."""

    name: str
    module: nn.Module
    inputs: dict[str, Any]
    outputs: list[str]
    layout: nn.Module | None = None  # that computes the same in fewer copies: the graph is made of it

    @property
    def flat_inputs(self) -> dict[str, Tensor]:
        """By the graph's names: a list ``conditions`` is ``condition_0``, ``condition_1``, …"""
        flat: dict[str, Tensor] = {}
        for name, value in self.inputs.items():
            many = isinstance(value, list)
            flat |= {f"{name[:-1]}_{i}": x for i, x in enumerate(value)} if many else {name: value}
        return flat

    def run(self) -> list[Tensor]:
        found = self.module(**self.inputs)
        return list(found) if isinstance(found, tuple) else [found]


def parts_of(model: DiffSal, b: int = BATCH, seed: int = 0) -> list[Part]:
    """The graphs of ``model`` with random inputs, ``b`` of each; computes each part's outputs on the way."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    height, width, frames = config.height, config.width, config.num_frames
    encoder = model.video_encoder
    parts = []
    if isinstance(encoder, FrameEncoder):
        images = torch.randint(0, 256, (b, height, width, 3), dtype=torch.uint8, generator=generator)
        part = Part("frames", Frames(model), {"images": images}, [f"scale_{i}" for i in range(3)])
        parts.append(part)
        slots = frames // encoder.frame_step
        inputs = {"brightness": torch.randn(b, frames, height // 4, width // 4, generator=generator)}
        for name, x in zip(part.outputs, part.run(), strict=True):
            inputs[name] = torch.stack([x.roll(i, 0) for i in range(slots)], dim=2)
        window: nn.Module = FrameWindow(model)
    else:
        inputs = {"images": torch.randint(
            0, 256, (b, frames, height, width, 3), dtype=torch.uint8, generator=generator)}
        window = VideoWindow(model)
    conditions = list(window(**inputs))
    parts.append(Part("window", window, inputs, [f"condition_{i}" for i in range(len(conditions))]))
    given: dict[str, Any] = {
        "x_t": torch.randn(b, 1, height, width, generator=generator),
        "t": torch.randint(0, model.schedule.num_timesteps, (b,), generator=generator), "conditions": conditions,
    }
    if model.audio_encoder is not None and config.audio_encoder is not None:
        mel = torch.randn(b, *window_shape(config.audio_encoder), generator=generator)
        sound = Part("sound", model.audio_encoder, {"mel": mel}, ["audio"])
        parts.append(sound)
        given |= {"audio": sound.run()[0], "heard": torch.arange(b) % 2 == 0}
    parts.append(Part("denoise", Denoise(model), given, ["map"], picture_layout(model)))
    return parts


def export(
    model: DiffSal, path: Path, metadata: dict[str, str] | None = None,
    on_part: Callable[[str], None] = lambda name: None,
) -> None:
    """Write ``model``'s graphs to ``path``, whole or not at all (:mod:`diffsal.runtime.graphs` says what is in it).

    Configuration, preprocessing, finish, spacing and ``metadata`` go with them. What a float16 holds exactly is stored
    so.
    ``on_part`` is called with the name of each graph before it is made. Raises :class:`InputError` where a graph's
    results differ from torch's by more than 1e-5 (of a map; of other results relative to their largest value).
    """
    plain = prepared(model)
    own = {
        FORMAT_KEY: FORMAT, CONFIG_KEY: json.dumps(model.config.to_dict()),
        FINISH_KEY: json.dumps(model.finish.to_dict()),
    }
    if model.spacing != "linspace":
        own[SPACING_KEY] = model.spacing
    graphs = {}
    with torch.no_grad():
        parts, others = parts_of(plain), parts_of(plain, BATCH + 1, seed=1)
        for part, other in zip(parts, others, strict=True):
            on_part(part.name)
            graphs[part.name] = graph_of(part)
            check(graphs[part.name], other, path)
    write_whole(path, bundle(graphs, {**(metadata or {}), **own}))


class ScaledConvNorm(nn.Module):
    """YAMNet's convolution and batch norm as one convolution whose factors stand apart: float16 then holds its weights
    exactly, where their product would need float32."""

    def __init__(self, block: yamnet.ConvNorm) -> None:
        super().__init__()
        norm, self.conv = block.norm, block.conv
        self.factor = nn.Parameter(torch.rsqrt(norm.running_var + norm.eps))
        self.bias = nn.Parameter(norm.bias - norm.running_mean * self.factor)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d p q"]:
        x = pad_same(x, self.conv.kernel_size, self.conv.stride)
        weight = self.conv.weight * self.factor.view(-1, 1, 1, 1)
        return F.relu(F.conv2d(x, weight, self.bias, self.conv.stride, groups=self.conv.groups))


def export_file(
    weights: str | Path, out: Path, force: bool = False, on_part: Callable[[str], None] = lambda name: None
) -> None:
    """:func:`export` for weights by name or file; what the file says of its origin goes with the graphs.

    Raises :class:`InputError` for weights that cannot be loaded, and where ``out`` exists and not ``force``.
    """
    if out.suffix != ".onnx":
        raise InputError(f"{out}: expected a name that ends in .onnx")
    if out.exists() and not force:
        raise InputError(f"{out}: exists already; give --force to overwrite it")
    model, metadata = load(weights), read_metadata(find(weights))
    export(model, out, metadata, on_part)


def prepared(model: DiffSal) -> DiffSal:
    """A copy on the CPU in float32 and eval mode that graphs are made of."""
    plain = copy.deepcopy(model).cpu().float().eval()
    if isinstance(plain.video_encoder, FrameEncoder):
        plain.video_encoder.projects_frames = True
    if isinstance(plain.video_encoder, MViT):
        plain.video_encoder.use_plain(True)
    if isinstance(plain.audio_encoder, yamnet.YAMNet):
        plain.audio_encoder.layers = nn.Sequential(*(
            ScaledConvNorm(x) for x in plain.audio_encoder.layers if isinstance(x, yamnet.ConvNorm)))
    plain.unet.keeps_video_apart = has_stages(plain)
    return plain


def graph_of(part: Part) -> bytes:
    """One graph, its batch free, without what only the exporter needs."""
    shapes = {
        name: [{0: torch.export.Dim.DYNAMIC} for _ in x] if isinstance(x, list) else {0: torch.export.Dim.DYNAMIC}
        for name, x in part.inputs.items()
    }
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            part.layout or part.module, kwargs=part.inputs, dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
            verbose=False, optimize=False,
        )
    assert program is not None
    # Only small constants are folded here: what large weights are multiplied by stays, so that float16 may hold them
    if len(program.model.graph) <= REWRITTEN:
        optimizer.optimize_ir(program.model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    else:
        optimizer.fold_constants(program.model, input_size_limit=FOLDED, output_size_limit=FOLDED)
        optimizer.remove_unused_nodes(program.model)
    proto: onnx.ModelProto = program.model_proto
    graph = proto.graph
    rename(graph, dict(zip((x.name for x in graph.input), part.flat_inputs, strict=True)))
    rename(graph, dict(zip((x.name for x in graph.output), part.outputs, strict=True)))
    drop_zero_biases(graph)
    halve(graph)
    del proto.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    proto.producer_name = proto.producer_version = ""
    onnx.checker.check_model(proto)
    return proto.SerializeToString(deterministic=True)


def rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Give values of ``graph`` other names."""
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)


def drop_zero_biases(graph: onnx.GraphProto) -> None:
    """Convolutions without bias stay so: the exporter gives those in 3D zeros, of a shape that no runtime takes."""
    zeros = {x.name for x in graph.initializer if not numpy_helper.to_array(x).any()}
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in zeros:
            del node.input[2]
    used = {name for node in graph.node for name in node.input} | {x.name for x in graph.output}
    kept = [x for x in graph.initializer if x.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def halve(graph: onnx.GraphProto) -> None:
    """Store float32 weights as float16 where that loses nothing; a Cast makes them float32, once, at load."""
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < 64 or not (half.astype(np.float32) == values).all():
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])


def check(graph: bytes, part: Part, path: Path) -> None:
    """:class:`InputError` where ONNX Runtime gives other results than torch."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(part.outputs, {name: x.numpy() for name, x in part.flat_inputs.items()})
    for name, ours, theirs in zip(part.outputs, found, part.run(), strict=True):
        scale = 1.0 if part.name == "denoise" else max(1.0, float(theirs.abs().max()))
        difference = float(np.abs(ours - theirs.numpy()).max()) / scale
        if not difference <= TOLERANCE:
            raise InputError(f"{path}: {name} of the graph {part.name} differs from torch's by {difference:.1e}, "
                             f"more than {TOLERANCE:.0e}: nothing was written; please report it")


def bundle(graphs: dict[str, bytes], metadata: dict[str, str]) -> bytes:
    """One ONNX model without inputs, whose outputs are the graphs' files as uint8."""
    tensors, nodes, outputs = [], [], []
    for name, data in graphs.items():
        tensors.append(helper.make_tensor(f"{name}.onnx", TensorProto.UINT8, [len(data)], data, raw=True))
        nodes.append(helper.make_node("Identity", [f"{name}.onnx"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, [len(data)]))
    graph = helper.make_graph(nodes, "diffsal", [], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="diffsal")
    model.ir_version = 10
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)
