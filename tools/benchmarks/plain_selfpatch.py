"""SelfPatch written down formula by formula, to compare with.

It computes the same numbers as ``mmdense.SelfPatch`` around DINO in the way
that a first version is usually written: all neighbours of every patch are
gathered as whole tokens, keys and values are projected again for every copy,
and the patch logits of all crops exist at the same time.

Source: Yun et al., "Patch-level Representation Learning for Self-supervised
Vision Transformers", CVPR 2022.
"""

import copy
from typing import Dict, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = Tuple[int, int]


def neighbors(hw: Grid, wrap: bool) -> Tuple[Tensor, Tensor]:
    """Indices of the eight neighbours ``(N, 8)`` and which ones exist."""
    height, width = hw
    index, exists = [], []
    for y in range(height):
        for x in range(width):
            around = [
                (y + dy, x + dx)
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if (dy, dx) != (0, 0)
            ]
            inside = [0 <= v < height and 0 <= u < width for v, u in around]
            exists.append([wrap or ok for ok in inside])
            index.append([v % height * width + u % width for v, u in around])
    return torch.tensor(index), torch.tensor(exists)


class Attention(nn.Module):
    """The class vector asks itself and the tokens."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dims, dims)
        self.k = nn.Linear(dims, dims)
        self.v = nn.Linear(dims, dims)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: Tensor, exists: Optional[Tensor]) -> Tensor:
        """Sequences ``(S, 1 + M, D)`` to ``(S, 1, D)``."""
        count, length, dims = x.shape
        shape = (count, -1, self.heads, dims // self.heads)
        query = self.q(x[:, :1]).reshape(shape).transpose(1, 2)
        key = self.k(x).reshape(shape).transpose(1, 2)
        value = self.v(x).reshape(shape).transpose(1, 2)
        scores = query @ key.transpose(2, 3) / shape[-1] ** 0.5
        if exists is not None:
            scores = scores.masked_fill(~exists[:, None, None], -torch.inf)
        out = scores.softmax(dim=-1) @ value
        return self.proj(out.transpose(1, 2).reshape(count, 1, dims))


class Block(nn.Module):
    """Class attention and MLP."""

    def __init__(self, dims: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dims, eps=1e-6)
        self.attn = Attention(dims, heads)
        self.norm2 = nn.LayerNorm(dims, eps=1e-6)
        self.mlp = nn.ModuleDict(
            dict(fc1=nn.Linear(dims, 4 * dims), fc2=nn.Linear(4 * dims, dims))
        )

    def forward(
        self, cls: Tensor, tokens: Tensor, exists: Optional[Tensor]
    ) -> Tensor:
        """New class vectors ``(S, 1, D)``."""
        x = self.norm1(torch.cat((cls, tokens), dim=1))
        cls = cls + self.attn(x, exists)
        hidden = F.gelu(self.mlp['fc1'](self.norm2(cls)))
        return cls + self.mlp['fc2'](hidden)


class Aggregation(nn.Module):
    """Summary of a set of tokens."""

    def __init__(self, dims: int, heads: int, depth: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims))
        self.blocks = nn.ModuleList(Block(dims, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dims, eps=1e-6)

    def forward(
        self, tokens: Tensor, exists: Optional[Tensor] = None
    ) -> Tensor:
        """Sets ``(S, M, D)`` to ``(S, D)``."""
        cls = self.cls_token.expand(len(tokens), -1, -1)
        if exists is not None:
            exists = F.pad(exists, (1, 0), value=True)
        for block in self.blocks:
            cls = block(cls, tokens, exists)
        return self.norm(cls[:, 0])


class Head(nn.Module):
    """Head of DINO."""

    def __init__(
        self, dims: int, out: int, hidden: int, bottleneck: int
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dims, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        self.last_layer = nn.utils.weight_norm(
            nn.Linear(bottleneck, out, bias=False)
        )
        self.last_layer.weight_g.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(..., K)``."""
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


class Network(nn.Module):
    """Backbone, aggregation and both heads."""

    def __init__(
        self, backbone: nn.Module, heads: int, outs: Dict[str, int]
    ) -> None:
        super().__init__()
        dims = backbone.embed_dims
        self.backbone = backbone
        self.pool = Aggregation(dims, heads, outs.get('depth', 2))
        hidden, bottleneck = outs['hidden'], outs['bottleneck']
        self.neck = Head(dims, outs['out'], hidden, bottleneck)
        self.patch_head = Head(dims, outs['patch_out'], hidden, bottleneck)


class PlainSelfPatch(nn.Module):
    """SelfPatch with DINO.

    Args:
        backbone (nn.Module): ViT without class token and final norm whose
            last output has ``patches`` ``(B, N, D)`` and ``hw``.
        heads (int): Attention heads of the aggregation.
        outs (Dict[str, int]): Widths ``out``, ``patch_out``, ``hidden`` and
            ``bottleneck`` of the heads.
        wrap (bool): Neighbours beyond the border are those of the opposite
            side. Defaults to False: there are none.
        top_k (int): Neighbours to keep. Defaults to 4.
        momentum (float): Of the teacher. Defaults to 0.996.
    """

    def __init__(
        self,
        backbone: nn.Module,
        heads: int,
        outs: Dict[str, int],
        wrap: bool = False,
        top_k: int = 4,
        momentum: float = 0.996,
    ) -> None:
        super().__init__()
        self.student = Network(backbone, heads, outs)
        self.teacher = Network(copy.deepcopy(backbone), heads, outs)
        self.teacher.requires_grad_(False)
        self.wrap = wrap
        self.top_k = top_k
        self.momentum = momentum
        self.register_buffer('center', torch.zeros(1, outs['out']))
        self.register_buffer('patch_center', torch.zeros(1, outs['patch_out']))

    def student_pass(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Logits of crops ``(S, K)`` and of their patches ``(S, N, K')``."""
        net = self.student
        tokens = net.backbone(images)[-1].patches
        logits = net.neck(net.pool(tokens))
        return logits, net.patch_head(net.pool.norm(tokens))

    @torch.no_grad()
    def teacher_pass(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Logits of crops, and of the neighbours of their patches."""
        net = self.teacher
        _, tokens, hw, _ = net.backbone(images)[-1]
        count, length, dims = tokens.shape
        logits = net.neck(net.pool(tokens))
        index, exists = (t.to(tokens.device) for t in neighbors(hw, self.wrap))
        around = tokens[:, index]  # (S, N, 8, D)
        similarity = F.cosine_similarity(tokens[:, :, None], around, dim=-1)
        similarity = similarity.masked_fill(~exists, -torch.inf)
        best = similarity.topk(self.top_k, dim=-1).indices
        chosen = around.gather(2, best[..., None].expand(-1, -1, -1, dims))
        exists = exists.expand(count, -1, -1).gather(2, best)
        summary = net.pool(
            chosen.reshape(count * length, self.top_k, dims),
            exists.reshape(count * length, self.top_k),
        )
        return logits, net.patch_head(summary).reshape(count, length, -1)

    def loss(
        self, crops: Sequence[Tensor], num_global: int = 2
    ) -> Tuple[Tensor, Tensor]:
        """Class and patch term of crops that come as global, then local."""
        batch = len(crops[0])
        groups = [torch.cat(tuple(crops[:num_global]))]
        if len(crops) > num_global:
            groups.append(torch.cat(tuple(crops[num_global:])))
        targets = [self.teacher_pass(images) for images in groups]
        outputs = [self.student_pass(images) for images in groups]
        with torch.no_grad():
            classes = [t.float() - self.center for t, _ in targets]
            probs = F.softmax(torch.cat(classes) / 0.04, dim=-1).split(batch)
            patch_probs = [
                F.softmax((t.float() - self.patch_center) / 0.04, dim=-1)
                for _, t in targets
            ]
        logits = torch.cat([s for s, _ in outputs]).float()
        logs = F.log_softmax(logits / 0.1, dim=-1).split(batch)
        patch_logs = [
            F.log_softmax(s.float() / 0.1, dim=-1) for _, s in outputs
        ]
        pairs = [
            -(probs[t] * logs[s]).sum(dim=-1).mean()
            for t in range(num_global)
            for s in range(len(crops))
            if s != t
        ]
        # every crop weighs the same, whatever its number of patches
        terms = [
            -(p * q).sum(dim=-1).mean() * len(p) / batch / len(crops)
            for p, q in zip(patch_probs, patch_logs)
        ]
        self.move_centers(targets)
        return sum(pairs) / len(pairs), sum(terms)

    @torch.no_grad()
    def move_centers(self, targets: Sequence[Tuple[Tensor, Tensor]]) -> None:
        """Move the centres by the mean of the teacher's logits."""
        for center, parts in (
            (self.center, [t.float() for t, _ in targets]),
            (self.patch_center, [t.float().flatten(0, 1) for _, t in targets]),
        ):
            count = sum(len(part) for part in parts)
            mean = sum(part.sum(0, keepdim=True) for part in parts) / count
            center.mul_(0.9).add_(mean, alpha=0.1)

    @torch.no_grad()
    def move_teacher(self) -> None:
        """Move the teacher, after the step of the optimiser."""
        for mine, theirs in zip(
            self.teacher.parameters(), self.student.parameters()
        ):
            mine.mul_(self.momentum).add_(theirs, alpha=1 - self.momentum)
