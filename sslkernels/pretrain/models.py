"""Networks that recipes share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Transformer(nn.Module):
    """Pre-norm blocks with rotary positions: (R, L, dim) -> (R, L, dim), a last norm included."""

    def __init__(self, dim: int, heads: int, layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % (2 * heads):
            raise ValueError(f"dim is {dim}, must be a multiple of 2 * heads = {2 * heads}")
        self.head_dim = dim // heads
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(dim)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """positions (R, L); mask bool, broadcast to (R, heads, L, L): True where a query reads a key."""
        turn = rotation(positions, self.head_dim)
        for block in self.blocks:
            x = block(x, turn, mask)
        return self.norm(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, turn: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(rotated(q, turn), rotated(k, turn), v, attn_mask=mask)
        x = x + self.dropout(self.out(read.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norm_mlp(x)))


def rotation(positions: Tensor, head_dim: int) -> Tensor:
    """cos and sin of each position's angles, (2, R, 1, L, head_dim / 2) (Su et al., "RoFormer", eq. 34)."""
    places = torch.arange(head_dim // 2, device=positions.device)
    angles = positions[:, None, :, None] * 1000.0 ** (-2.0 * places / head_dim)
    return torch.stack([angles.cos(), angles.sin()])


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """x (R, heads, L, head_dim), its two halves turned as the coordinates of a plane."""
    cos, sin = turn.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def segment_mask(segments: Tensor, causal: bool = False) -> Tensor:
    """Who reads whom in rows of several sequences: segments (R, L) -> bool (R, 1, L, L), block-diagonal."""
    mask = segments[:, :, None] == segments[:, None, :]
    return (mask.tril() if causal else mask)[:, None]
