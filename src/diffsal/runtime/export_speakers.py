"""LR-ASD's checkpoint → the three graphs that the package carries: faces, sound, and the decision from both.

``python -m diffsal.runtime.export_speakers lr_asd_ava.safetensors OUT`` writes ``lr_asd_faces.onnx``,
``lr_asd_sound.onnx`` and ``lr_asd_decision.onnx``, their weights in half precision with the batch norms folded into
them. It needs torch and onnx.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.files import write_whole
from diffsal.networks.lr_asd import LRASD, SoundBlock, SoundEncoder
from diffsal.runtime.export_faces import OPSET, faces_graph, folded
from diffsal.weights.files import load_strictly, read_tensors

LEAST_HALVED = 60_000  # numbers in a tensor from which on it is stored in half precision


class FoldedConv(nn.Module):
    """A convolution with its batch norm folded into it, and ReLU."""

    def __init__(self, weight: Tensor, norm: nn.BatchNorm2d, padding: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(x) for x in folded(weight, norm))
        self.padding = padding

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        return F.relu(F.conv2d(x, self.weight, self.bias, padding=self.padding))


class FoldedSound(nn.Module):
    """The sound encoder: (4 n, 13) MFCCs → (n, 128)."""

    def __init__(self, encoder: SoundEncoder) -> None:
        super().__init__()
        blocks = (encoder.block1, encoder.block2, encoder.block3)
        self.convs = nn.ModuleList(conv for block in blocks for conv in self._folded(block))

    @staticmethod
    def _folded(block: SoundBlock) -> list[FoldedConv]:
        pairs = ((block.m_1, block.m_norm_1), (block.m_2, block.m_norm_2), (block.t_1, block.t_norm_1),
                 (block.t_2, block.t_norm_2))
        return [FoldedConv(conv.weight, norm, cast("tuple[int, int]", conv.padding)) for conv, norm in pairs]

    def forward(self, mfcc: Float[Tensor, "n4 13"]) -> Float[Tensor, "n 128"]:
        x = mfcc.transpose(0, 1)[None, None]
        for index, conv in enumerate(self.convs):
            x = conv(x if index not in (4, 8) else F.max_pool2d(x, (1, 3), (1, 2), (0, 1)))
        return x.mean(2)[0].transpose(0, 1)


class Decision(nn.Module):
    """Features of a face and of the sound, (n, 128) each → (n,) scores, positive while the face speaks."""

    def __init__(self, model: LRASD) -> None:
        super().__init__()
        self.model = model

    def forward(self, faces: Float[Tensor, "n 128"], sound: Float[Tensor, "n 128"]) -> Float[Tensor, " n"]:
        logits = self.model.decide(faces[None], sound[None])[0]
        return logits[:, 1] - logits[:, 0]


def halve_weights(graph) -> None:
    """Store an ONNX graph's large float32 weights as float16, each followed by a cast back: half the file."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for stored in graph.graph.initializer:
        values = numpy_helper.to_array(stored)
        if values.dtype != np.float32 or not values.size >= LEAST_HALVED:
            continue
        name = stored.name
        stored.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.graph.node.insert(0, node)


def export(model: LRASD, folder: Path, half: bool = True) -> None:
    """Write the three graphs of ``model`` into ``folder``."""
    _write_graph(faces_graph(model.visualEncoder), folder / "lr_asd_faces.onnx", half)
    _write(FoldedSound(model.audioEncoder).eval(), (torch.zeros(40, 13),), folder / "lr_asd_sound.onnx", ["mfcc"],
           ["features"], {"mfcc": {0: "n4"}, "features": {0: "n"}}, half)
    _write(Decision(model).eval(), (torch.zeros(10, 128), torch.zeros(10, 128)), folder / "lr_asd_decision.onnx",
           ["faces", "sound"], ["scores"], {"faces": {0: "n"}, "sound": {0: "n"}, "scores": {0: "n"}}, half)


def _write(module: nn.Module, inputs: tuple, path: Path, names: list[str], outputs: list[str], axes: dict,
           half: bool) -> None:
    import io

    import onnx

    stream = io.BytesIO()
    torch.onnx.export(module, inputs, stream,  # type: ignore[arg-type]
                      dynamo=False, opset_version=OPSET, input_names=names, output_names=outputs, dynamic_axes=axes)
    _write_graph(onnx.load_from_string(stream.getvalue()), path, half)


def _write_graph(graph: Any, path: Path, half: bool) -> None:
    import onnx

    if half:
        halve_weights(graph)
    graph.producer_name, graph.doc_string = "diffsal", "LR-ASD, Junhua-Liao/LR-ASD, weight/pretrain_AVA.model (MIT)"
    onnx.checker.check_model(graph)
    write_whole(path, graph.SerializeToString())


def main(checkpoint: str, folder: str) -> None:
    model = LRASD().eval()
    counts = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}  # not in the file
    load_strictly(model, {**counts, **read_tensors(Path(checkpoint))}, checkpoint)
    export(model, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
