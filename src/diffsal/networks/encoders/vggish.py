"""VGGish's convolutions (Hershey et al. 2017) and DiffSal's audio transformer over their slots and positions."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from diffsal.networks.encoders.base import AudioEncoder

CHANNELS = 512
_PLAN = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")  # 3x3 convolutions and 2x2 max pools


def vggish_features() -> nn.Sequential:
    """(n, 1, h, w) → (n, 512, h / 16, w / 16), with torchvggish's parameter names under ``features``."""
    layers: list[nn.Module] = []
    channels = 1
    for step in _PLAN:
        if isinstance(step, str):  # "pool"
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU()]
            channels = step
    return nn.Sequential(*layers)


class Attention(nn.Module):
    """Self-attention over tokens, normalised on entry; the packed projection gives q, k, v, then heads."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        q, k, v = rearrange(self.to_qkv(self.norm(x)), "b n (three h c) -> three b h n c", three=3, h=self.heads)
        return self.to_out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n c -> b n (h c)"))


class FeedForward(nn.Module):
    """LayerNorm, linear, GELU, linear; the names leave room for the two dropouts that the paper trains without."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Identity(),
            nn.Linear(hidden, width), nn.Identity(),
        )

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return self.net(x)


class AudioTransformer(nn.Module):
    """One layer of attention and MLP over all slots and positions together: (b, c, n, h, w) → the same shape."""

    def __init__(self, width: int = CHANNELS, heads: int = 2, head_width: int = 64, hidden: int = 256) -> None:
        super().__init__()
        layer = nn.ModuleList([Attention(width, heads, head_width), FeedForward(width, hidden)])
        self.layers = nn.ModuleList([layer])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b c n h w"]) -> Float[Tensor, "b c n h w"]:
        n, h, w = x.shape[2:]
        tokens = rearrange(x, "b c n h w -> b (n h w) c")
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for part in layer:  # attention, then the feed-forward network
                tokens = tokens + part(tokens)
        return rearrange(self.norm(tokens), "b (n h w) c -> b c n h w", n=n, h=h, w=w)


class VGGish(AudioEncoder):
    """The paper's audio encoder: frozen VGGish convolutions per slot, then a learned transformer over all of them.

    Names against the released checkpoint's: ``features`` is ``audio_net.features``, ``transformer`` is
    ``spatiotemp_net.transformer``. VGGish's classifier (``embeddings``) has no use here.
    """

    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.features = vggish_features().requires_grad_(False)  # the paper keeps AudioSet's weights
        self.transformer = AudioTransformer()

    def forward(self, mel: Float[Tensor, "b 1 n t f"]) -> Float[Tensor, "b c n h w"]:
        """Features of ``n`` log-mel examples, each enlarged to 112x192: (b, 512, n, 7, 12)."""
        features = self.features(rearrange(mel, "b 1 n t f -> (b n) 1 t f"))
        return self.transformer(rearrange(features, "(b n) c h w -> b c n h w", b=mel.shape[0]))
