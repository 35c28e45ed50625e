"""Class attention that summarises tokens: all of an image, or neighbours."""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from mmdense.registry import MODELS


class _Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """``(..., D)`` as ``(..., heads, D / heads)``."""
        return x.unflatten(-1, (self.num_heads, -1))

    def pool(self, cls: Tensor, tokens: Tensor) -> Tensor:
        """One query ``(S, 1, D)`` over itself and all ``(S, N, D)``."""
        both = torch.cat((cls, tokens), dim=1)
        query, key, value = (
            self.split(x).transpose(1, 2)
            for x in (self.q(cls), self.k(both), self.v(both))
        )
        out = F.scaled_dot_product_attention(query, key, value)
        return self.proj(out.transpose(1, 2).flatten(2))

    def gathered(
        self,
        cls: Tensor,
        tokens: Tensor,
        flat: Tensor,
        valid: Optional[Tensor],
    ) -> Tensor:
        """One query a patch over itself and some of the tokens.

        Keys and values are made once a token; what is gathered is their
        rows, not the tokens.

        Args:
            cls (Tensor): Queries ``(S, N, D)``, or ``(1, 1, D)`` if all
                patches have the same.
            tokens (Tensor): ``(S, N, D)``.
            flat (Tensor): Rows ``(S, N, k)`` among the ``S * N`` tokens.
            valid (Tensor, optional): Which of them count.

        Returns:
            Tensor: ``(S, N, D)``.
        """
        query = (
            self.split(self.q(cls)) * (cls.shape[-1] // self.num_heads) ** -0.5
        )
        own = (query * self.split(self.k(cls))).sum(-1)
        keys = self.split(self.k(tokens))
        if cls.shape[:2] == (1, 1):
            scores = (query * keys).sum(-1).flatten(0, 1)[flat]
        else:
            near = keys.flatten(0, 1)[flat]  # (S, N, k, heads, d)
            scores = (near * query[:, :, None]).sum(-1)
        if valid is not None:
            scores = scores.masked_fill(~valid[..., None], float('-inf'))
        own = own.expand(*flat.shape[:2], -1)[:, :, None]
        weights = torch.cat((own, scores), dim=2).softmax(dim=2)[..., None]
        values = self.split(self.v(tokens)).flatten(0, 1)[flat]
        out = self.split(self.v(cls)) * weights[:, :, 0]
        out = out + (values * weights[:, :, 1:].to(values.dtype)).sum(2)
        return self.proj(out.flatten(2).to(tokens.dtype))


class _MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class ClassAttentionBlock(nn.Module):
    """Updates the class vector from tokens, which stay as they are.

    Args:
        embed_dims (int): Width ``D``.
        num_heads (int): Number of heads, a divisor of ``D``.
        mlp_ratio (float): Hidden width of the MLP over ``D``.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, mlp_ratio: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = _Attention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = _MLP(embed_dims, int(embed_dims * mlp_ratio))

    def pool(self, cls: Tensor, tokens: Tensor) -> Tensor:
        """Class vectors ``(S, 1, D)`` over all tokens ``(S, N, D)``."""
        cls = cls + self.attn.pool(self.norm1(cls), self.norm1(tokens))
        return cls + self.mlp(self.norm2(cls))

    def gathered(
        self,
        cls: Tensor,
        tokens: Tensor,
        flat: Tensor,
        valid: Optional[Tensor],
    ) -> Tensor:
        """Class vectors of every patch over its neighbours."""
        cls = cls + self.attn.gathered(
            self.norm1(cls), self.norm1(tokens), flat, valid
        )
        return cls + self.mlp(self.norm2(cls))


@MODELS.register_module()
class ClassAttentionPooling(BaseModule):
    """Aggregation head of SelfPatch.

    A learnable class vector attends to itself and to tokens in ``depth``
    blocks; the tokens are never updated. The same weights summarise a whole
    image (:meth:`forward`) and the neighbours of a patch (:meth:`aggregate`).

    Sources: Yun et al., CVPR 2022, section 3.2; alinlab/SelfPatch
    ``selfpatch_vision_transformer.py`` (class attention of CaiT, Touvron et
    al., ICCV 2021, without LayerScale).

    Args:
        embed_dims (int): Width ``D`` of the tokens.
        num_heads (int): Number of heads, a divisor of ``D``; as in the
            backbone.
        depth (int): Number of blocks. Defaults to 2.
        mlp_ratio (float): Hidden width of the MLPs over ``D``. Defaults to
            4.0.
        init_cfg (dict, optional): Initialisation. Defaults to None: linear
            layers and the class vector from a truncated normal of std 0.02,
            biases zero.

    Raises:
        ValueError: If ``num_heads`` does not divide ``embed_dims``.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        depth: int = 2,
        mlp_ratio: float = 4.0,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_heads < 1 or embed_dims % num_heads:
            raise ValueError(
                f'aggregation: num_heads={num_heads} does not divide '
                f'embed_dims={embed_dims}.'
            )
        self.embed_dims = embed_dims
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.blocks = nn.ModuleList(
            ClassAttentionBlock(embed_dims, num_heads, mlp_ratio)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Summarise all tokens of each image.

        Args:
            tokens (Tensor): ``(S, N, D)``.

        Returns:
            Tensor: ``(S, D)``, through the final norm.
        """
        cls = self.cls_token.expand(len(tokens), -1, -1)
        block: Any
        for block in self.blocks:
            cls = block.pool(cls, tokens)
        return self.norm(cls[:, 0])

    def aggregate(
        self, tokens: Tensor, index: Tensor, valid: Optional[Tensor] = None
    ) -> Tensor:
        """Summarise the neighbours of each patch, without the patch itself.

        Args:
            tokens (Tensor): ``(S, N, D)``.
            index (Tensor): Patch indices of the neighbours, ``(S, N, k)``.
            valid (Tensor, optional): Which of them count, ``(S, N, k)``.
                Defaults to None: all.

        Returns:
            Tensor: ``(S, N, D)``, through the final norm.
        """
        count, length = tokens.shape[:2]
        start = torch.arange(count, device=tokens.device)[:, None, None]
        flat = index + start * length
        cls = self.cls_token
        block: Any
        for block in self.blocks:
            cls = block.gathered(cls, tokens, flat, valid)
        return self.norm(cls)

    def average(
        self, tokens: Tensor, index: Tensor, valid: Optional[Tensor] = None
    ) -> Tensor:
        """Mean of the neighbours of each patch (ablation of the paper).

        Args:
            tokens (Tensor): ``(S, N, D)``.
            index (Tensor): Patch indices of the neighbours, ``(S, N, k)``.
            valid (Tensor, optional): Which of them count, ``(S, N, k)``.
                Defaults to None: all.

        Returns:
            Tensor: ``(S, N, D)``, through the final norm.
        """
        count, length = tokens.shape[:2]
        start = torch.arange(count, device=tokens.device)[:, None, None]
        near = tokens.flatten(0, 1)[index + start * length]
        if valid is None:
            return self.norm(near.mean(dim=2))
        weights = valid[..., None].to(near.dtype)
        return self.norm((near * weights).sum(2) / weights.sum(2))
