"""InfoNCE between a global token and the patch tokens of the other view."""

from typing import Dict, Tuple

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdense.registry import MODELS
from mmdense.utils.dist import gather_with_grad, process_info

NEGATIVES = ('local', 'global', 'both', 'local_two_view')
STOP_GRAD = ('none', 'local', 'global')


def _scores(query: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """``(B, d)`` against ``(C, n, d)`` gives ``(B, C, n)``."""
    images, tokens, dims = keys.shape
    flat = query @ keys.reshape(images * tokens, dims).t()
    return flat.view(-1, images, tokens) / temperature


@MODELS.register_module()
class LocalGlobalLoss(nn.Module):
    r"""Each image's global token against every patch of the other view.

    With the global token z_b of one view and the patch tokens p_{c,j} of the
    other, s[b; c, j] = z_b . p_{c,j} / tau and

    .. math::
        l[b, i] = \mathrm{softplus}\Bigl(
            \operatorname{logsumexp}_{c \ne b,\,j} s[b; c, j] - s[b; b, i]
        \Bigr)

    averaged over images b and patches i. Patches of the same image are in
    nobody's denominator; the score matrix is ``B x (B N)``. Computed in
    float32 whatever the autocast state.

    Sources: Rabarisoa et al., "Self-Supervised Pre-training of Vision
    Transformers for Dense Prediction Tasks", CVPRW 2023, section 3 (there is
    no public code). Normalisation follows SimCLR (Chen et al., ICML 2020).

    Args:
        temperature (float): tau > 0. Defaults to 0.1.
        normalize (bool): Divide tokens by their L2 norm first. Defaults to
            True.
        symmetric (bool): Average both directions. Defaults to True.
        negatives (str): What the other images contribute: ``'local'`` their
            patches of the key view, ``'global'`` their global tokens of the
            key view, ``'both'`` the union, ``'local_two_view'`` their
            patches of both views. Defaults to ``'local'``.
        gather (bool): Take negatives from all processes, with gradients.
            Defaults to False.
        stop_grad (str): Side that receives no gradient: ``'none'``,
            ``'local'`` or ``'global'``. Defaults to ``'none'``.
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If an option is not one of those named.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        normalize: bool = True,
        symmetric: bool = True,
        negatives: str = 'local',
        gather: bool = False,
        stop_grad: str = 'none',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f'temperature must be > 0, got {temperature}')
        if negatives not in NEGATIVES:
            raise ValueError(
                f'negatives={negatives!r}: choose from {NEGATIVES}'
            )
        if stop_grad not in STOP_GRAD:
            raise ValueError(
                f'stop_grad={stop_grad!r}: choose from {STOP_GRAD}'
            )
        self.temperature = temperature
        self.normalize = normalize
        self.symmetric = symmetric
        self.negatives = negatives
        self.gather = gather
        self.stop_grad = stop_grad
        self.loss_weight = loss_weight
        self._announced = False

    def forward(
        self,
        global_1: Tensor,
        local_1: Tensor,
        global_2: Tensor,
        local_2: Tensor,
    ) -> Dict[str, Tensor]:
        """Loss of two views and what tells whether it is learning.

        Args:
            global_1 (Tensor): Global tokens of view 1, ``(B, d)``.
            local_1 (Tensor): Patch tokens of view 1, ``(B, N1, d)``.
            global_2 (Tensor): Global tokens of view 2, ``(B, d)``.
            local_2 (Tensor): Patch tokens of view 2, ``(B, N2, d)``.

        Returns:
            Dict[str, Tensor]: Scalars. ``loss``; ``direction_12`` and
            ``direction_21`` (the second only if symmetric); and, without
            gradient, ``pos_cos`` and ``neg_cos`` (mean cosine in [-1, 1] of
            positives and negatives), ``acc`` (share in [0, 1] of patches
            that beat every negative), ``std_global`` and ``std_local``
            (standard deviation over images of the normalised tokens, for
            patches at each place, times sqrt(d): about 1 for spread
            features, 0 when all images look alike). With
            ``normalize=False`` the cosines are bare dot products.

        Raises:
            ValueError: If there is no other image to be a negative, or the
                shapes do not fit.
        """
        self._check(global_1, local_1, global_2, local_2)
        with torch.autocast(global_1.device.type, enabled=False):
            tokens = [
                t.float() for t in (global_1, local_1, global_2, local_2)
            ]
            if self.normalize:
                tokens = [F.normalize(t, dim=-1) for t in tokens]
            z1, p1, z2, p2 = tokens
            out = self._monitors(*tokens)
            loss, stats = self._direction(z1, z2, p2, p1)
            out['direction_12'] = loss.detach()
            if self.symmetric:
                back, other = self._direction(z2, z1, p1, p2)
                out['direction_21'] = back.detach()
                loss = 0.5 * (loss + back)
                stats = [0.5 * (a + b) for a, b in zip(stats, other)]
            out.update(zip(('pos_cos', 'neg_cos', 'acc'), stats))
            out['loss'] = self.loss_weight * loss
        return out

    def _check(self, z1: Tensor, p1: Tensor, z2: Tensor, p2: Tensor) -> None:
        if z1.dim() != 2:
            raise ValueError(
                f'global_1 has shape {tuple(z1.shape)}; expected (B, d).'
            )
        batch, dims = z1.shape
        for name, tensor in (('local_1', p1), ('local_2', p2)):
            if tensor.dim() != 3 or tensor.shape[::2] != (batch, dims):
                raise ValueError(
                    f'{name} has shape {tuple(tensor.shape)}; expected '
                    f'({batch}, N, {dims}) to go with global tokens '
                    f'{tuple(z1.shape)}.'
                )
        if z2.shape != z1.shape:
            raise ValueError(
                f'global_2 has shape {tuple(z2.shape)}, global_1 '
                f'{tuple(z1.shape)}.'
            )
        images = batch * (process_info()[1] if self.gather else 1)
        if images < 2:
            raise ValueError(
                'LocalGlobal takes its negatives from other images, and this '
                f'batch holds {images} image per process. Raise '
                'train_dataloader.batch_size to 2 or more (and set '
                'drop_last=True), or train on several processes with '
                'model.head.loss.gather=True.'
            )
        if not self._announced:
            self._announced = True
            per_image = {
                'local': p2.shape[1],
                'global': 1,
                'both': p2.shape[1] + 1,
                'local_two_view': p1.shape[1] + p2.shape[1],
            }[self.negatives]
            print_log(
                f'LocalGlobal: {(images - 1) * per_image} negatives per '
                f'positive ({images - 1} other images x {per_image}).',
                logger='current',
            )

    def _direction(
        self, z: Tensor, z_other: Tensor, p: Tensor, p_own: Tensor
    ) -> Tuple[Tensor, list]:
        """Queries ``z`` against the tokens of the other view.

        Args:
            z (Tensor): Queries, ``(B, d)``.
            z_other (Tensor): Global tokens of the key view, ``(B, d)``.
            p (Tensor): Patches of the key view, ``(B, N, d)``.
            p_own (Tensor): Patches of the query view, ``(B, N', d)``.

        Returns:
            tuple: The loss and ``[pos_cos, neg_cos, acc]``.
        """
        if self.stop_grad == 'local':
            p, p_own = p.detach(), p_own.detach()
        elif self.stop_grad == 'global':
            z, z_other = z.detach(), z_other.detach()
        keys = {
            'local': lambda: p,
            'global': lambda: z_other[:, None],
            'both': lambda: torch.cat([p, z_other[:, None]], dim=1),
            'local_two_view': lambda: torch.cat([p, p_own], dim=1),
        }[self.negatives]()
        offset = 0
        if self.gather:
            offset = process_info()[0] * z.shape[0]
            keys = gather_with_grad(keys)
        scores = _scores(z, keys, self.temperature)  # (B, C, n)
        own = torch.arange(z.shape[0], device=z.device) + offset
        mask = F.one_hot(own, keys.shape[0]).bool()[:, :, None]
        negatives = scores.masked_fill(mask, float('-inf')).flatten(1)
        # (B, N): a query against its own patches only
        positives = torch.einsum('bd,bnd->bn', z, p) / self.temperature
        hardness = negatives.logsumexp(dim=1, keepdim=True) - positives
        loss = F.softplus(hardness).mean()
        with torch.no_grad():
            hardest = negatives.max(dim=1, keepdim=True).values
            count = (keys.shape[0] - 1) * keys.shape[1] * z.shape[0]
            total = scores.masked_fill(mask, 0).sum()
            stats = [
                positives.mean() * self.temperature,
                total / count * self.temperature,
                (positives > hardest).float().mean(),
            ]
        return loss, stats

    @torch.no_grad()
    def _monitors(
        self, z1: Tensor, p1: Tensor, z2: Tensor, p2: Tensor
    ) -> Dict[str, Tensor]:
        scale = z1.shape[-1] ** 0.5

        def spread(tokens: Tensor) -> Tensor:
            tokens = F.normalize(tokens, dim=-1)
            return tokens.std(dim=0, correction=0).mean() * scale

        # patches at one place, over images: position alone is no feature
        return {
            'std_global': 0.5 * (spread(z1) + spread(z2)),
            'std_local': 0.5 * (spread(p1) + spread(p2)),
        }
