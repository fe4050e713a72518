"""What of a network learns and how its gradients are computed: freezing, batch statistics, gradient checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from diffsal.config import FRAME_ENCODERS
from diffsal.errors import InputError
from diffsal.networks.diffsal import DiffSal
from diffsal.networks.encoders.base import FrameEncoder
from diffsal.training.config import BatchNorm, EncoderPart


def freeze(model: DiffSal, parts: Iterable[EncoderPart]) -> None:
    """The encoders named do not learn, nor what no output depends on (MViT's norm of the finest scale).

    An audio encoder's own frozen convolutions stay frozen whatever is named.
    """
    unused = getattr(model.video_encoder, "norm0", None)
    if unused is not None:
        unused.requires_grad_(False)
    for part in parts:
        encoder = encoder_of(model, part)
        if encoder is not None:
            encoder.requires_grad_(False)


def freeze_blocks(model: DiffSal, count: int) -> None:
    """The first ``count`` blocks of a frame encoder's backbone do not learn, the others do."""
    if not isinstance(model.video_encoder, FrameEncoder):
        raise InputError(f"{model.config.video_encoder}: encodes windows whole; this recipe needs an encoder of single "
                         f"frames: video_encoder={' or '.join(FRAME_ENCODERS)}")
    for index, block in enumerate(model.video_encoder.features):
        block.requires_grad_(index >= count)


def train_mode(model: DiffSal, frozen: Iterable[EncoderPart], batch_norm: BatchNorm) -> None:
    """Training mode, except for frozen encoders and, with ``batch_norm`` "frozen", all batch statistics."""
    model.train()
    for part in frozen:
        encoder = encoder_of(model, part)
        if encoder is not None:
            encoder.eval()
    if batch_norm == "frozen":
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def encoder_of(model: DiffSal, part: EncoderPart) -> nn.Module | None:
    return model.video_encoder if part == "video" else model.audio_encoder


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the samples of all processes, on any device (torch's own is for GPUs alone)."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        running_mean, running_var, seen = self.running_mean, self.running_var, self.num_batches_tracked
        assert running_mean is not None and running_var is not None and seen is not None and self.momentum is not None
        x = input.to(running_mean.dtype)
        dims = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        count = dist.get_world_size() * x.numel() / x.shape[1]
        mean = _SumOfProcesses.apply(x.sum(dims)) / count
        centred = x - mean.view(shape)
        variance = _SumOfProcesses.apply(centred.square().sum(dims)) / count
        with torch.no_grad():
            seen += 1
            running_mean.lerp_(mean, self.momentum)
            running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)


class _SumOfProcesses(torch.autograd.Function):
    """A sum over processes that gradients pass through."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def synchronise_batch_norm(model: nn.Module) -> None:
    """Every batch norm of ``model`` becomes a :class:`SynchronisedBatchNorm`, in place; names and values stay.

    Processes must hold equally many samples each.
    """
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = SynchronisedBatchNorm


def checkpoint_gradients(encoder: nn.Module) -> int:
    """Blocks of ``encoder`` keep only their inputs for the backward pass and are computed again there; how many.

    Blocks are the members of its outermost lists (``nn.ModuleList``, ``nn.Sequential``). Gradients, and the batch
    statistics, which move once, are those without. Costs about one more forward pass of the encoder.
    """
    blocks = list(_blocks(encoder))
    for block in blocks:
        block.forward = _computed_again(block, block.forward)
    return len(blocks)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, (nn.ModuleList, nn.Sequential)):
            yield from (block for block in child if any(True for _ in block.parameters()))
        else:
            yield from _blocks(child)


def _computed_again(block: nn.Module, forward: Callable) -> Callable:
    @wraps(forward)
    def checkpointed(*inputs, **named):
        if not torch.is_grad_enabled():
            return forward(*inputs, **named)
        return checkpoint(
            forward, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _still(block)), **named
        )

    return checkpointed


@contextmanager
def _still(block: nn.Module) -> Iterator[None]:
    """Batch statistics do not move, as they have already."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training]
    counters = [m.num_batches_tracked for m in norms if m.num_batches_tracked is not None]
    momenta, counts = [m.momentum for m in norms], [counter.clone() for counter in counters]
    for m in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
        for counter, count in zip(counters, counts, strict=True):
            counter.copy_(count)
