"""From the last convolution of a depth head to depth."""

import math
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from mmdense.utils.errors import UserError, UserValueError

MODES = ('sigmoid_range', 'relu_min', 'relative', 'inverse_affine')
# smallest inverse depth that is inverted, as in the official code
_EPS = 1e-8


class DepthOutput(nn.Module):
    r"""Output activation of a depth head, always in float32.

    ===================  ===================================================
    ``'sigmoid_range'``  :math:`d_{min} + (d_{max} - d_{min}) \sigma(x)`
    ``'relu_min'``       :math:`d_{min} + \max(x, 0)`
    ``'relative'``       :math:`\max(x, 0)`: inverse depth up to scale and
                         shift
    ``'inverse_affine'`` :math:`1 / \max(a \max(x, 0) + b, 10^{-8})`: such a
                         prediction made metric
    ===================  ===================================================

    a and b belong to the weights whose x they make metric; in the released
    DPT models they are 6.016e-5 and 5.79e-3 (KITTI), 3.05e-4 and 0.1378
    (NYU). Without them the module can be built, not run. Learned, they are
    parametrised relative to their starting values (``a * exp(log_scale)``,
    ``b + b * rel_shift``), so that the learning rate of the head suits them
    whatever their size.

    Sources: [0] isl-org/DPT ``DPTDepthModel``. [1] the
    Monocular-Depth-Estimation-Toolbox (``'relu_min'``, ``'sigmoid_range'``).

    Args:
        mode (str): One of the above.
        min_depth (float): Lower end in metres.
        max_depth (float): Upper end in metres.
        scale (float, optional): a, 1/metre, above 0. None, like ``shift``,
            for numbers that are still to be found. Defaults to None.
        shift (float, optional): b, 1/metre. Defaults to None.
        learn_affine (bool): Whether a and b are learned. Defaults to False.
        non_negative (bool): Whether x is cut at 0 in the two modes of
            inverse depth. Defaults to True.

    Raises:
        ValueError: If the mode is unknown, or its settings are missing or
            belong to another one.
    """

    def __init__(
        self,
        mode: str,
        min_depth: float,
        max_depth: float,
        scale: Optional[float] = None,
        shift: Optional[float] = None,
        learn_affine: bool = False,
        non_negative: bool = True,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise UserValueError(
                f'Depth head: output={mode!r}, choose from {MODES}'
            )
        if mode == 'inverse_affine':
            half = (scale is None) != (shift is None)
            if half or (scale is not None and not scale > 0):
                raise UserValueError(
                    "Depth head: output='inverse_affine' needs scale (above "
                    f'0) and shift, got {scale} and {shift}; both are None '
                    'if they are still to be found'
                )
        elif learn_affine or scale is not None or shift is not None:
            raise UserValueError(
                'Depth head: scale, shift and learn_affine belong to '
                f"output='inverse_affine', not to {mode!r}"
            )
        self.mode = mode
        self.min_depth = min_depth
        self.max_depth = max_depth
        self.scale = scale
        self.shift = shift
        self.non_negative = non_negative
        self.log_scale: Optional[nn.Parameter] = None
        self.rel_shift: Optional[nn.Parameter] = None
        if learn_affine:
            self.log_scale = nn.Parameter(torch.zeros(()))
            self.rel_shift = nn.Parameter(torch.zeros(()))

    @property
    def is_relative(self) -> bool:
        """bool: Whether it gives inverse depth up to scale and shift."""
        return self.mode == 'relative'

    def forward(self, logits: Tensor) -> Tensor:
        """Activate.

        Args:
            logits (Tensor): Any shape.

        Returns:
            Tensor: The same shape, float32 (float64 stays): metres, or
            relative inverse depth in mode 'relative'.

        Raises:
            UserError: If 'inverse_affine' has no scale and shift yet.
        """
        if logits.dtype != torch.float64:
            logits = logits.float()
        if self.mode == 'relu_min':
            return self.min_depth + logits.relu()
        if self.mode == 'sigmoid_range':
            span = self.max_depth - self.min_depth
            return self.min_depth + span * logits.sigmoid()
        if self.non_negative:
            logits = logits.relu()
        if self.is_relative:
            return logits
        scale, shift = self._affine()
        if self.log_scale is None or self.rel_shift is None:
            inverse = scale * logits + shift
        else:
            # a shift of 0 could not move if it were only multiplied
            unit = abs(shift) or scale
            inverse = scale * self.log_scale.exp() * logits
            inverse = inverse + shift + unit * self.rel_shift
        return inverse.clamp(min=_EPS).reciprocal()

    def _affine(self) -> Tuple[float, float]:
        if self.scale is None or self.shift is None:
            raise UserError(
                'model.decode_head.scale and model.decode_head.shift are '
                "None: output='inverse_affine' needs those of the weights "
                'that it starts from. Find them with\n'
                '    python tools/analysis_tools/fit_scale_shift.py CONFIG '
                'WEIGHTS\n'
                'and give them in the config, or with --cfg-options '
                'model.decode_head.scale=A model.decode_head.shift=B. To '
                'test a model trained with them, take the config in its '
                'work dir.'
            )
        return self.scale, self.shift

    def bias(self, name: str, init_depth: Optional[float]) -> float:
        """Bias of the last convolution that makes a head give a depth.

        Args:
            name (str): Class of the head, for messages.
            init_depth (float, optional): Metres; None for the default.

        Returns:
            float: The bias. Without ``init_depth`` it is 0; where the output
            is cut at 0 it is 1, in mode 'relu_min' no more than half the
            range, so that no head starts dead.

        Raises:
            ValueError: If the mode cannot give this depth.
        """
        inverse = self.mode in ('relative', 'inverse_affine')
        if init_depth is None:
            if self.mode == 'relu_min':
                return min(1.0, (self.max_depth - self.min_depth) / 2)
            return 1.0 if inverse and self.non_negative else 0.0
        if self.is_relative:
            raise UserValueError(
                f'{name}: init_depth={init_depth} is in metres, output='
                "'relative' has no unit; leave it out"
            )
        if not self.min_depth < init_depth < self.max_depth:
            raise UserValueError(
                f'{name}: init_depth={init_depth} is not between '
                f'min_depth={self.min_depth} and max_depth={self.max_depth}'
            )
        if inverse:
            scale, shift = self._affine()
            value = (1 / init_depth - shift) / scale
            if self.non_negative and value <= 0:
                raise UserValueError(
                    f'{name}: init_depth={init_depth} is beyond 1/shift='
                    f'{1 / shift:.3g} m, the farthest that '
                    "output='inverse_affine' gives"
                )
            return value
        if self.mode == 'relu_min':
            return init_depth - self.min_depth
        share = (init_depth - self.min_depth) / (
            self.max_depth - self.min_depth
        )
        return math.log(share / (1 - share))

    def extra_repr(self) -> str:
        """Mode and numbers, for ``print(model)``."""
        text = f'{self.mode}, {self.min_depth} to {self.max_depth} m'
        if self.mode == 'inverse_affine':
            learned = self.log_scale is not None
            text += f', a={self.scale}, b={self.shift}, learned={learned}'
        return text
