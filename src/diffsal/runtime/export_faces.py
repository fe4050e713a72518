"""LR-ASD's face encoder as an ONNX graph that runs along a stream: five crops at once, after those before them.

Every crop is a picture of its own, and a convolution over time is a sum of 1x1 convolutions of pictures: ONNX Runtime
then lays no picture out anew in between, on which a quarter of its time went.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from diffsal.config import FACE_CROP_SIDE, FACE_CROPS
from diffsal.networks.lr_asd import GREY_MEAN, GREY_STD, WIDTHS, FaceBlock, FaceEncoder

SIDES = (56, 28, 14)  # of each block's pictures
OPSET = 17
IR_VERSION = 8


def faces_graph(encoder: FaceEncoder) -> Any:
    """The ONNX model of ``encoder``, its batch norms folded into its weights.

    ``crops`` (5, 112, 112) grey, 0 to 255, and what convolution j over time saw before, ``past_J_0`` (the oldest),
    ``past_J_1``, …, each (1, c, h, w) and zeros at a face's start → ``features`` (5, 128) of the crops 9 before each,
    and what it sees now, ``new_J_0`` to ``new_J_4``: the last of these are the next call's ``past_J_0``, ….
    """
    graph = _Graph()
    pictures = graph.crops()
    for index, block in enumerate((encoder.block1, encoder.block2, encoder.block3)):
        if index > 0:
            pictures = graph.each("MaxPool", pictures, f"pooled_{index}", kernel_shape=[3, 3], strides=[2, 2],
                                  pads=[1] * 4)
        first = f"block_{index}"
        pictures = graph.over_picture(pictures, block.s_1, block.s_norm_1, f"{first}_s_1")
        pictures = graph.over_picture(pictures, block.s_2, block.s_norm_2, f"new_{2 * index}")
        pictures = graph.over_time(pictures, block, 1, 2 * index, f"new_{2 * index + 1}", SIDES[index])
        pictures = graph.over_time(pictures, block, 2, 2 * index + 1, f"{first}_t_2", SIDES[index])
    highest = graph.each("GlobalMaxPool", pictures, "highest")
    graph.node("Concat", graph.each("Flatten", highest, "row"), "features", axis=0)
    return graph.model()


def folded(weight: Tensor, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution without bias and the batch norm after it; ``weight`` in any layout."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (weight * scale.view(-1, *[1] * (weight.dim() - 1))).detach(), (
        norm.bias - norm.running_mean * scale).detach()


class _Graph:
    """A graph that grows node by node. A list of names is one picture for each crop."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs = [_value("crops", FACE_CROPS, FACE_CROP_SIDE, FACE_CROP_SIDE)]
        self.outputs = [_value("features", FACE_CROPS, WIDTHS[-1])]

    def node(self, kind: str, given: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, given, [name], name, **attributes))
        return name

    def each(self, kind: str, pictures: list[str], name: str, *weights: str, **attributes: Any) -> list[str]:
        return [self.node(kind, [x, *weights], f"{name}_{i}", **attributes) for i, x in enumerate(pictures)]

    def split(self, given: str, name: str, count: int, axis: int) -> list[str]:
        names = [f"{name}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node("Split", [given], names, name, axis=axis))
        return names

    def stored(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def crops(self) -> list[str]:
        """The input, normalised, crop by crop."""
        x = self.node("Sub", ["crops", self.stored("mean", np.array(255 * GREY_MEAN, np.float32))], "centred")
        x = self.node("Div", [x, self.stored("spread", np.array(255 * GREY_STD, np.float32))], "normalised")
        x = self.node("Unsqueeze", [x, self.stored("channel", np.array([1]))], "grey")
        return self.split(x, "crop", FACE_CROPS, 0)

    def over_picture(
        self, pictures: list[str], conv: nn.Conv3d, norm: nn.BatchNorm3d, name: str
    ) -> list[str]:
        weight, bias = self._folded(conv.weight[:, :, 0], norm, name)
        pads, strides = [int(conv.padding[1])] * 4, [conv.stride[1]] * 2
        sums = self.each("Conv", pictures, f"{name}_sum", weight, bias, pads=pads, strides=strides)
        return self.each("Relu", sums, name)

    def over_time(
        self, pictures: list[str], block: FaceBlock, which: int, number: int, name: str, side: int
    ) -> list[str]:
        """The first or second convolution over time of a block; ``number`` is its own among all."""
        conv, norm = (block.t_1, block.t_norm_1) if which == 1 else (block.t_2, block.t_norm_2)
        weight, bias = self._folded(conv.weight[..., 0], norm, name)
        length, channels = conv.kernel_size[0], conv.in_channels
        taps = self.split(weight, f"{name}_tap", length, 2)
        past = [f"past_{number}_{k}" for k in range(length - 1)]
        self.inputs += [_value(x, 1, channels, side, side) for x in past]
        self.outputs += [_value(x, 1, channels, side, side) for x in pictures]
        row, sums = [*past, *pictures], []
        for i in range(FACE_CROPS):
            total = self.node("Conv", [row[i], taps[0], bias], f"{name}_{i}_part_0")
            for k in range(1, length):
                part = self.node("Conv", [row[i + k], taps[k]], f"{name}_{i}_part_{k}")
                total = self.node("Add", [total, part], f"{name}_{i}_to_{k}")
            sums.append(total)
        return self.each("Relu", sums, name)

    def _folded(self, weight: Tensor, norm: nn.BatchNorm3d, name: str) -> tuple[str, str]:
        values, bias = folded(weight, norm)
        return self.stored(f"{name}_weight", values.numpy()), self.stored(f"{name}_bias", bias.numpy())

    def model(self) -> Any:
        graph = helper.make_graph(self.nodes, "faces", self.inputs, self.outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        return model


def _value(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
