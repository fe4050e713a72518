"""MViTv2-S (Li et al. 2022): the paper's video encoder, in the released network's layout or torchvision's.

Parameter names are the released network's (``visual_net.…``) and mmaction's. torchvision's ``mvit_v2_s`` has the same
blocks with one last norm in place of a norm per scale: :func:`from_torchvision` renames it.
"""

from __future__ import annotations

import re
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.networks.blocks import Mlp
from diffsal.networks.encoders.base import VideoEncoder

HEAD_WIDTH = 96
HEADS = (1, 2, 2, *[4] * 11, 8, 8)  # of the 16 blocks
SCALE_BLOCKS = (0, 2, 13, 15)  # a scale ends with each of these
FIRST_KEY_STRIDE = 8  # of K and V in block 0; halved at each block whose Q is strided
PATCH_KERNEL, PATCH_STRIDE, PATCH_PADDING = (3, 7, 7), (2, 4, 4), (1, 3, 3)
TABLE_FRAMES, TABLE_SIZE = 16, 224  # clip and picture that Kinetics training used: they set the tables' rows
EVEN_WIDTH = 16  # Q, K and V are filled up to a multiple: matrix products are faster
Grid = tuple[int, int, int]  # slots, rows, columns


class MViT(VideoEncoder):
    """(b, 3, t, h, w) → four scales (b, 96·2ⁱ, t/2, h/2ⁱ⁺², w/2ⁱ⁺²), fine to coarse; h and w multiples of 32.

    ``num_frames`` says only how many ``slots`` to expect. Relative position tables have the rows of
    ``table_frames`` frames of ``table_size`` pixels and are resized to the input, so weights fit every size.
    ``drop_path``: stochastic depth, rising linearly to this rate at the last block. ``scale_norms``: the tokens that
    leave a scale are normalised (else only the last: torchvision), for its output and, with ``normalised_stream``, for
    the next block (released).
    ``num_classes`` adds the classifier of torchvision's layout. ``plain``: see :class:`Attention`.
    """

    channels = (96, 192, 384, 768)

    def __init__(
        self,
        num_frames: int = 16,
        height: int = 224,
        width: int = 384,
        drop_path: float = 0.0,
        *,
        scale_norms: bool = True,
        normalised_stream: bool = True,
        num_classes: int = 0,
        table_frames: int = TABLE_FRAMES,
        table_size: int = TABLE_SIZE,
        norm_eps: float = 1e-5,
        plain: bool = False,
    ) -> None:
        super().__init__()
        check_size(num_frames, height, width)
        self.slots, self.normalised_stream = (num_frames // 2,) * 4, normalised_stream
        self.patch_embed = PatchEmbedding(self.channels[0])
        self.cls_token = nn.Parameter(torch.empty(1, 1, self.channels[0]))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        norm = partial(nn.LayerNorm, eps=norm_eps)
        self.blocks = nn.ModuleList()
        channels, key_stride, rows = self.channels[0], FIRST_KEY_STRIDE, table_size // PATCH_STRIDE[1]
        for i, heads in enumerate(HEADS):
            stride = 2 if i - 1 in SCALE_BLOCKS else 1
            key_stride //= stride
            extents = (rows // stride, rows // key_stride)  # of Q and K in this block
            tables = (table_frames // PATCH_STRIDE[0], max(extents))
            rate = drop_path * i / (len(HEADS) - 1)
            self.blocks.append(Block(channels, heads, stride, key_stride, tables, rate, norm, plain))
            channels, rows = heads * HEAD_WIDTH, extents[0]
        self.norm_names = {b: f"norm{i}" for i, b in enumerate(SCALE_BLOCKS) if scale_norms or b == SCALE_BLOCKS[-1]}
        for block, name in self.norm_names.items():
            self.add_module(name, norm(HEADS[block] * HEAD_WIDTH))
        self.head = nn.Linear(channels, num_classes) if num_classes else None
        self.apply(_initialise)

    def use_plain(self, plain: bool) -> None:
        """Switches every block between the plain formulation and the fast one."""
        for block in self.blocks:
            assert isinstance(block, Block)
            block.attn.plain = plain

    def tokens(self, video: Float[Tensor, "b 3 t h w"]) -> list[tuple[Float[Tensor, "b n c"], Grid]]:
        """Tokens of the scales (class token first, after the scale's norm where there is one) and their grids."""
        check_size(*video.shape[2:])
        x, grid = self.patch_embed(video)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        scales = []
        for i, block in enumerate(self.blocks):
            x, grid = block(x, grid)
            scale = getattr(self, self.norm_names[i])(x) if i in self.norm_names else x
            if i in SCALE_BLOCKS:
                scales.append((scale, grid))
            x = scale if self.normalised_stream else x
        return scales

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> list[Float[Tensor, "b _ s _ _"]]:
        return [
            rearrange(x[:, 1:], "b (t h w) c -> b c t h w", t=t, h=h, w=w) for x, (t, h, w) in self.tokens(video)
        ]

    def logits(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b k"]:
        """Class scores before the softmax; needs ``num_classes``."""
        if self.head is None:
            raise ValueError("this MViT has no classifier: build it with num_classes")
        return self.head(self.tokens(video)[-1][0][:, 0])


class PatchEmbedding(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv3d(3, channels, PATCH_KERNEL, PATCH_STRIDE, PATCH_PADDING)

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> tuple[Float[Tensor, "b n c"], Grid]:
        x = self.projection(video)
        return rearrange(x, "b c t h w -> b (t h w) c"), tuple(x.shape[2:])


class Block(nn.Module):
    """Pooling attention and MLP, each behind a norm and beside a skip; width and grid may change in the attention."""

    def __init__(
        self,
        channels: int,
        heads: int,
        stride: int,
        key_stride: int,
        tables: tuple[int, int],
        drop_path: float,
        norm: partial,
        plain: bool,
    ) -> None:
        super().__init__()
        width = heads * HEAD_WIDTH
        self.stride, self.drop_path = stride, drop_path
        self.norm1 = norm(channels)
        self.attn = Attention(channels, heads, stride, key_stride, tables, norm, plain)
        self.norm2 = norm(width)
        self.mlp = Mlp(width, 4 * width)
        self.proj = nn.Linear(channels, width) if channels != width else None

    def forward(self, x: Float[Tensor, "b n c"], grid: Grid) -> tuple[Float[Tensor, "b n2 c2"], Grid]:
        normed = self.norm1(x)
        attended, attended_grid = self.attn(normed, grid)
        skip = self._pool_skip(x if self.proj is None else self.proj(normed), grid)
        x = skip + drop_samples(attended, self.drop_path, self.training)
        return x + drop_samples(self.mlp(self.norm2(x)), self.drop_path, self.training), attended_grid

    def _pool_skip(self, x: Float[Tensor, "b n c"], grid: Grid) -> Float[Tensor, "b n2 c"]:
        if self.stride == 1:
            return x
        t, h, w = grid
        pictures = rearrange(x[:, 1:], "b (t h w) c -> (b t) c h w", t=t, h=h, w=w)
        pooled = F.max_pool2d(pictures, 3, self.stride, 1)
        return torch.cat([x[:, :1], rearrange(pooled, "(b t) c h w -> b (t h w) c", t=t)], dim=1)


class Attention(nn.Module):
    """Attention with pooled Q, K, V and decomposed relative positions (Li et al. 2022, equations 2 to 4).

    Two formulations of the same numbers (1e-5). ``plain``: the attention matrix is made, and three relative terms
    are added to it. Fast, the default: row i's relative terms are a product of Q_i and one table row per slot, row
    and column of K, so they ride as extra columns of Q against one-hot columns of K, and
    ``scaled_dot_product_attention`` never makes the matrix; pooling convolves with channels last.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        stride: int,
        key_stride: int,
        tables: tuple[int, int],
        norm: partial,
        plain: bool,
    ) -> None:
        super().__init__()
        self.heads, self.plain = heads, plain
        width = heads * HEAD_WIDTH
        self.qkv = nn.Linear(channels, 3 * width)
        self.proj = nn.Linear(width, width)
        for name, s in (("q", stride), ("k", key_stride), ("v", key_stride)):
            pool = nn.Conv3d(HEAD_WIDTH, HEAD_WIDTH, 3, (1, s, s), 1, groups=HEAD_WIDTH, bias=False)
            self.add_module(f"pool_{name}", pool)
            self.add_module(f"norm_{name}", norm(HEAD_WIDTH))
        slots, rows = tables
        self.rel_pos_h = nn.Parameter(torch.empty(2 * rows - 1, HEAD_WIDTH))
        self.rel_pos_w = nn.Parameter(torch.empty(2 * rows - 1, HEAD_WIDTH))
        self.rel_pos_t = nn.Parameter(torch.empty(2 * slots - 1, HEAD_WIDTH))
        for table in (self.rel_pos_h, self.rel_pos_w, self.rel_pos_t):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: Float[Tensor, "b n c"], grid: Grid) -> tuple[Float[Tensor, "b n2 c2"], Grid]:
        pool = pool_plainly if self.plain else pool_channels_last
        pooled = []
        for projection, name in zip(self._project(x), "qkv", strict=True):
            conv, norm = getattr(self, f"pool_{name}"), getattr(self, f"norm_{name}")
            tokens, pooled_grid = pool(projection, conv, self.heads, grid)
            pooled.append((norm(tokens), pooled_grid))
        (q, q_grid), (k, k_grid), (v, _) = pooled
        terms = self._relative_terms(q, q_grid, k_grid)
        out = (attend_plainly if self.plain else attend_fast)(q, k, v, terms, k_grid)
        out = torch.cat([out[:, :, :1], out[:, :, 1:] + q[:, :, 1:]], dim=2)
        return self.proj(rearrange(out, "b m n d -> b n (m d)")), q_grid

    def _project(self, x: Float[Tensor, "b n c"]) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K and V, each contiguous (one product would interleave them), (b, n, heads·d)."""
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        q, k, v = (F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True))
        return q, k, v

    def _relative_terms(
        self, q: Float[Tensor, "b m n d"], q_grid: Grid, k_grid: Grid
    ) -> tuple[Float[Tensor, "b m p t"], Float[Tensor, "b m p h"], Float[Tensor, "b m p w"]]:
        """The unscaled Q of each position against the table rows of K's slots, rows and columns."""
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        r_t, r_h, r_w = (table_rows(t, *sizes) for t, *sizes in zip(tables, q_grid, k_grid, strict=True))
        t, h, w = q_grid
        positions = rearrange(q[:, :, 1:], "b m (t h w) d -> b m t h w d", t=t, h=h, w=w)
        return (
            torch.einsum("bmthwd,tkd->bmthwk", positions, r_t.to(q.dtype)).flatten(2, 4),
            torch.einsum("bmthwd,hkd->bmthwk", positions, r_h.to(q.dtype)).flatten(2, 4),
            torch.einsum("bmthwd,wkd->bmthwk", positions, r_w.to(q.dtype)).flatten(2, 4),
        )


def pool_plainly(
    x: Float[Tensor, "b n c"], conv: nn.Conv3d, heads: int, grid: Grid
) -> tuple[Float[Tensor, "b m n2 d"], Grid]:
    """Positions convolved, head by head; the class token joins again after it."""
    t, h, w = grid
    tokens = rearrange(x, "b n (m d) -> b m n d", m=heads)
    volume = rearrange(tokens[:, :, 1:], "b m (t h w) d -> (b m) d t h w", t=t, h=h, w=w).contiguous()
    pooled = conv(volume)
    positions = rearrange(pooled, "(b m) d t h w -> b m (t h w) d", m=heads)
    return torch.cat([tokens[:, :, :1], positions], dim=2), tuple(pooled.shape[2:])


def pool_channels_last(
    x: Float[Tensor, "b n c"], conv: nn.Conv3d, heads: int, grid: Grid
) -> tuple[Float[Tensor, "b m n2 d"], Grid]:
    """The same with the heads side by side in the channels and these last, as the tokens lie in memory already."""
    t, h, w = grid
    volume = rearrange(x[:, 1:], "b (t h w) c -> b c t h w", t=t, h=h, w=w)
    kernel = conv.weight.repeat(heads, 1, 1, 1, 1)
    pooled = F.conv3d(volume, kernel, None, conv.stride, conv.padding, groups=len(kernel))
    tokens = torch.cat([x[:, :1], rearrange(pooled, "b c t h w -> b (t h w) c")], dim=1)
    t2, h2, w2 = pooled.shape[2:]
    return rearrange(tokens, "b n (m d) -> b m n d", m=heads), (t2, h2, w2)


def attend_plainly(
    q: Float[Tensor, "b m n d"],
    k: Float[Tensor, "b m o d"],
    v: Float[Tensor, "b m o d"],
    terms: tuple[Tensor, Tensor, Tensor],
    k_grid: Grid,
) -> Float[Tensor, "b m n d"]:
    """The reference: softmax(Q Kᵀ / √d + relative terms) V, the matrix explicit."""
    scores = (q * HEAD_WIDTH**-0.5) @ k.transpose(-1, -2)
    r_t, r_h, r_w = terms
    bias = r_t[..., :, None, None] + r_h[..., None, :, None] + r_w[..., None, None, :]  # b m p t h w
    scores = scores + F.pad(bias.flatten(3), (1, 0, 1, 0))  # the class token has no position
    return scores.softmax(dim=-1) @ v


def attend_fast(
    q: Float[Tensor, "b m n d"],
    k: Float[Tensor, "b m o d"],
    v: Float[Tensor, "b m o d"],
    terms: tuple[Tensor, Tensor, Tensor],
    k_grid: Grid,
) -> Float[Tensor, "b m n d"]:
    """The same with the relative terms as columns of Q and K; V is filled up with zeros to their width."""
    extra = torch.cat(terms, dim=-1)
    to_even = -(HEAD_WIDTH + extra.shape[-1]) % EVEN_WIDTH
    extra = F.pad(extra, (0, to_even, 1, 0))  # zeros for the class token
    q = torch.cat([q * HEAD_WIDTH**-0.5, extra], dim=-1)
    positions = F.pad(key_positions(k_grid, k), (0, to_even, 1, 0)).expand(*k.shape[:2], -1, -1)
    k = torch.cat([k, positions], dim=-1)
    padded = F.pad(v, (0, extra.shape[-1]))
    return F.scaled_dot_product_attention(q, k, padded, scale=1.0)[..., :HEAD_WIDTH]


def key_positions(grid: Grid, like: Tensor) -> Float[Tensor, "p k"]:
    """One-hot slot, row and column of each position: (t·h·w, t + h + w)."""
    t, h, w = grid
    slot, row, column = (torch.eye(n, dtype=like.dtype, device=like.device) for n in grid)
    parts = (
        slot[:, None, None].expand(t, h, w, t), row[None, :, None].expand(t, h, w, h),
        column[None, None].expand(t, h, w, w),
    )
    return torch.cat(parts, dim=-1).flatten(0, 2)


def table_rows(table: Float[Tensor, "r d"], q_size: int, k_size: int) -> Float[Tensor, "q k d"]:
    """The table's row for each pair of positions along one axis; the table linearly resized to these extents."""
    rows = 2 * max(q_size, k_size) - 1
    if len(table) != rows:
        table = F.interpolate(table.float().T[None], size=rows, mode="linear")[0].T.to(table.dtype)
    q_step, k_step = max(k_size / q_size, 1.0), max(q_size / k_size, 1.0)
    q = torch.arange(q_size, device=table.device)[:, None] * q_step
    k = torch.arange(k_size, device=table.device)[None, :] * k_step
    return table[(q - k + (k_size - 1) * k_step).long()]


def drop_samples(x: Float[Tensor, "b n c"], rate: float, training: bool) -> Float[Tensor, "b n c"]:
    """Stochastic depth: whole samples of a residual branch zeroed, the rest scaled to keep the mean."""
    if not training or rate == 0.0:
        return x
    kept = torch.rand(len(x), 1, 1, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1.0 - rate))


def check_size(num_frames: int, height: int, width: int) -> None:
    if num_frames % 2 or num_frames < 2 or height % 32 or width % 32 or min(height, width) < 32:
        raise ValueError(
            f"MViT got {num_frames} frames of {height}x{width}, expected an even number of frames and sides that are "
            "multiples of 32"
        )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ``mvit_v2_s`` state dict under our names: its last norm is ``norm3``, its classifier ``head``.

    It fits ``MViT(scale_norms=False, num_classes=400, norm_eps=1e-6)``. An encoder with scale norms takes all but
    ``head.*`` and keeps its own ``norm0`` to ``norm2``, which torchvision does not have.
    """
    renames = (
        (r"^conv_proj\.", "patch_embed.projection."), (r"^pos_encoding\.class_token$", "cls_token"),
        (r"^norm\.", "norm3."), (r"^head\.1\.", "head."),
        (r"\.attn\.project\.0\.", ".attn.proj."), (r"\.attn\.pool_([qkv])\.pool\.", r".attn.pool_\1."),
        (r"\.attn\.pool_([qkv])\.norm_act\.0\.", r".attn.norm_\1."),
        (r"\.mlp\.0\.", ".mlp.fc1."), (r"\.mlp\.3\.", ".mlp.fc2."), (r"^(blocks\.\d+)\.project\.", r"\1.proj."),
    )
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in renames:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value[None, None] if key == "cls_token" and value.dim() == 1 else value
    return renamed
