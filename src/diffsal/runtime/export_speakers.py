"""LR-ASD's checkpoint → the three graphs that the package carries: faces, sound, and the decision from both.

``python -m diffsal.runtime.export_speakers lr_asd_ava.safetensors OUT`` writes ``lr_asd_faces.onnx``,
``lr_asd_sound.onnx`` and ``lr_asd_decision.onnx``, their weights in half precision with the batch norms folded into
them. It needs torch and onnx.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.files import write_whole
from diffsal.networks.lr_asd import GREY_MEAN, GREY_STD, LRASD, FaceBlock, FaceEncoder, SoundBlock, SoundEncoder
from diffsal.weights.files import load_strictly, read_tensors

OPSET = 17
LEAST_HALVED = 60_000  # numbers in a tensor from which on it is stored in half precision
FACE_STATES = (  # of a face's stream: the last inputs of every convolution over time, (frames, channels, height, width)
    (4, 32, 56, 56), (2, 32, 56, 56), (4, 64, 28, 28), (2, 64, 28, 28), (4, 128, 14, 14), (2, 128, 14, 14),
)


BatchNorm = nn.BatchNorm2d | nn.BatchNorm3d


class FoldedConv(nn.Module):
    """A convolution with its batch norm folded into it, and ReLU; ``weight`` in any layout."""

    def __init__(self, weight: Tensor, norm: BatchNorm, stride: int = 1, padding: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.weight = nn.Parameter((weight * scale.view(-1, 1, 1, 1)).detach())
        self.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach())
        self.stride, self.padding = stride, padding

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        return F.relu(F.conv2d(x, self.weight, self.bias, self.stride, self.padding))


class StreamedFaces(nn.Module):
    """The face encoder over the next ``n`` crops of a face whose earlier ones are in ``states``: 9 crops behind them.

    ``crops`` (n, 112, 112) grey, 0 to 255 → features (n, 128) of the crops 9 before each, and the new states. The
    states are zeros at a face's start.
    """

    def __init__(self, encoder: FaceEncoder) -> None:
        super().__init__()
        blocks = (encoder.block1, encoder.block2, encoder.block3)
        self.convs = nn.ModuleList(conv for block in blocks for conv in self._folded(block))

    @staticmethod
    def _folded(block: FaceBlock) -> list[FoldedConv]:
        stride = block.s_1.stride[1]
        return [
            FoldedConv(block.s_1.weight[:, :, 0], block.s_norm_1, stride, (2, 2)),
            FoldedConv(block.s_2.weight[:, :, 0], block.s_norm_2, padding=(1, 1)),
            FoldedConv(block.t_1.weight[..., 0], block.t_norm_1),
            FoldedConv(block.t_2.weight[..., 0], block.t_norm_2),
        ]

    def forward(self, crops: Float[Tensor, "n 112 112"], *states: Tensor) -> tuple[Tensor, ...]:
        x = ((crops / 255 - GREY_MEAN) / GREY_STD)[:, None]
        kept = []
        for block in range(3):
            s_1, s_2, t_1, t_2 = self.convs[4 * block : 4 * block + 4]
            x = x if block == 0 else F.max_pool2d(x, 3, 2, 1)
            x = s_2(s_1(x))
            for conv, state in zip((t_1, t_2), states[2 * block : 2 * block + 2], strict=True):
                x = torch.cat([state, x])
                kept.append(x[-state.shape[0] :])
                across = x.flatten(2).permute(1, 0, 2)[None]  # (1, c, n, h w): time is a side of the picture
                x = conv(across)[0].permute(1, 0, 2).unflatten(2, x.shape[2:])
        return x.amax((2, 3)), *kept


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
        return [FoldedConv(conv.weight, norm, padding=cast("tuple[int, int]", conv.padding)) for conv, norm in pairs]

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
    states = [f"state_{i}" for i in range(len(FACE_STATES))]
    zeros = [torch.zeros(shape) for shape in FACE_STATES]
    encoder = StreamedFaces(model.visualEncoder).eval()
    _write(encoder, (torch.zeros(5, 112, 112), *zeros), folder / "lr_asd_faces.onnx", ["crops", *states],
           ["features", *(f"new_{name}" for name in states)], {"crops": {0: "n"}, "features": {0: "n"}}, half)
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
    graph = onnx.load_from_string(stream.getvalue())
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
