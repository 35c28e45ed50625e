"""Optimiser wrappers with the training rules of DINO."""

import math
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import torch
from mmengine.optim import AmpOptimWrapper as StockAmpOptimWrapper
from mmengine.optim import OptimWrapper as StockOptimWrapper
from torch import Tensor, nn
from torch import distributed as dist

from mmdense.registry import OPTIM_WRAPPERS
from mmdense.utils.dist import process_info
from mmdense.utils.errors import UserError


class NonFiniteLossError(UserError, FloatingPointError):
    """A loss that is NaN or infinite; no step was made with it."""


def clip_each_(gradients: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale every tensor down to an L2 norm of its own, in place.

    Source: ``clip_gradients`` of ``facebookresearch/dino``, ``utils.py``
    (commit 7c446df): a tensor of norm ``n`` is multiplied by ``c = max_norm
    / (n + 1e-6)`` where ``c < 1``. Unlike there, a tensor whose norm is not
    finite stays as it is. Nothing here waits for the device.

    Args:
        gradients (Sequence[Tensor]): Of any shapes, at least one, changed.
        max_norm (float): Norm that no tensor exceeds afterwards, above 0.

    Returns:
        Tensor: Shape ``()``, the L2 norm of all of them before.
    """
    grads = list(gradients)
    device = grads[0].device
    norms = torch.stack([n.to(device) for n in torch._foreach_norm(grads)])
    scales = max_norm / (norms + 1e-6)
    # infinity times a scale of 0 would be NaN
    shrink = (scales < 1) & torch.isfinite(norms)
    scales = torch.where(shrink, scales, torch.ones_like(scales))
    factors = [s.to(g.dtype) for s, g in zip(scales.unbind(), grads)]
    torch._foreach_mul_(grads, factors)
    return torch.linalg.vector_norm(norms)


def is_finite(value: float) -> bool:
    """Whether a step may be made with a loss of this value."""
    return math.isfinite(value)


class _LossReader:
    """Brings the value of a loss to the host while backward runs.

    On a GPU the copy goes through a stream of its own that waits for the
    forward pass alone.
    """

    def __init__(self) -> None:
        self._stream: Any = None
        self._host: Optional[Tensor] = None
        self._event: Any = None
        self._kept: Optional[Tensor] = None

    def start(self, loss: Tensor, shared: bool) -> None:
        """Send the loss off; nothing waits on a GPU.

        Args:
            loss (Tensor): Shape ``()``.
            shared (bool): Let all processes know of a bad one.
        """
        value = loss.detach().reshape(()).float()
        # the loss, and 1 where it is not finite on any process
        state = torch.stack([value, (~torch.isfinite(value)).float()])
        self._kept = state
        if not value.is_cuda:
            self._share(state, shared)
            return
        if self._host is None:
            self._stream = torch.cuda.Stream(value.device)
            self._event = torch.cuda.Event()
            self._host = torch.empty(2, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(value.device))
        with torch.cuda.stream(self._stream):
            self._share(state, shared)
            self._host.copy_(state, non_blocking=True)
            self._event.record()

    @staticmethod
    def _share(state: Tensor, shared: bool) -> None:
        if shared and process_info()[1] > 1:
            dist.all_reduce(state[1:], dist.ReduceOp.MAX)

    def read(self) -> List[float]:
        """Loss of this process, and 1 or 0 for any process's being bad."""
        assert self._kept is not None
        state = self._kept
        if state.is_cuda:
            self._event.synchronize()
            assert self._host is not None
            state = self._host
        self._kept = None
        return state.tolist()


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(StockOptimWrapper):
    """mmengine's wrapper, with per-tensor clipping and a check of the loss.

    * ``clip_grad=dict(type='per_tensor', max_norm=3.0)`` clips each gradient
      to its own L2 norm (:func:`clip_each_`), as DINO does. The other types
      are the stock ones.
    * :meth:`drop_gradients` takes parameters out of the step: they keep
      their values and the optimiser its state of them.
    * No step is made with a loss that is NaN or infinite. On a GPU, nothing
      waits for that: the value is read while backward runs.
    * Accumulation works with ``static_graph=True`` of DDP, which fails under
      mmengine's: every iteration shares its gradients between processes, not
      the last of a step alone.

    Args:
        optimizer (Optimizer): The optimiser.
        accumulative_counts (int): Iterations per step. Defaults to 1.
        clip_grad (dict, optional): ``type`` ``'per_tensor'`` with
            ``max_norm`` (float, above 0), or as in mmengine. Defaults to
            None, no clipping.

    Attributes:
        grad_norm (Tensor, optional): Shape ``()``, on the device: L2 norm of
            all gradients before clipping at the last step, without the
            factor of loss scaling. None where nothing is clipped by norm.
        on_non_finite (Callable, optional): Called with the loss, shape
            ``()``, before :class:`NonFiniteLossError` is raised.
        on_forward (Callable, optional): Called without arguments before the
            forward pass, when all hooks are done.
        share_check (bool): Stop all processes at a bad loss of one of them.
            All have to make their steps together then. Defaults to False.

    Raises:
        ValueError: If ``max_norm`` is missing or not above 0.
    """

    grad_norm: Optional[Tensor] = None
    on_non_finite: Optional[Callable[[Tensor], None]] = None
    on_forward: Optional[Callable[[], None]] = None
    share_check: bool = False

    def __init__(
        self,
        *args: Any,
        clip_grad: Optional[dict] = None,
        **kwargs: Any,
    ) -> None:
        own = clip_grad is not None and clip_grad.get('type') == 'per_tensor'
        super().__init__(*args, clip_grad=None if own else clip_grad, **kwargs)
        if own:
            assert clip_grad is not None
            options = {k: v for k, v in clip_grad.items() if k != 'type'}
            limit = options.get('max_norm')
            if set(options) != {'max_norm'} or not limit or limit < 0:
                raise ValueError(
                    'optim_wrapper.clip_grad of type per_tensor takes '
                    f'max_norm, a number above 0, got {options}.'
                )
            self.clip_grad_kwargs = options
            self.clip_func = clip_each_
        self._reader = _LossReader()
        self._dropped: List[nn.Parameter] = []
        self._static_graph = False

    def drop_gradients(self, params: Optional[Sequence[nn.Parameter]]) -> None:
        """Leave parameters out of the steps from now on.

        Their gradients are computed, counted in :attr:`grad_norm`, clipped,
        and removed before the optimiser looks: no decay either.

        Args:
            params (Sequence[nn.Parameter], optional): None for nobody.
        """
        self._dropped = list(params or [])

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of the forward pass, as in mmengine."""
        if self.on_forward is not None:
            self.on_forward()
        # no_sync() would break DDP's first pass of a static graph; later ones
        # do the same, so that a resumed run rounds as one that goes on
        self._static_graph = getattr(model, 'static_graph', False)
        with super().optim_context(model):
            yield

    def should_sync(self) -> bool:
        """Whether this iteration's gradients are shared between processes."""
        return self._static_graph or super().should_sync()

    def update_params(
        self,
        loss: Tensor,
        step_kwargs: Optional[Dict] = None,
        zero_kwargs: Optional[Dict] = None,
    ) -> None:
        """Backward, and a step when enough gradients are together.

        Args:
            loss (Tensor): Shape ``()``.
            step_kwargs (dict, optional): For ``optimizer.step``.
            zero_kwargs (dict, optional): For ``optimizer.zero_grad``.

        Raises:
            NonFiniteLossError: If the loss is not finite. Weights and
                optimiser are those before.
        """
        self._reader.start(loss, self.share_check)
        if not loss.is_cuda:
            self._check(loss)
        self.backward(self.scale_loss(loss))
        if loss.is_cuda:
            self._check(loss)
        if self.should_update():
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def _check(self, loss: Tensor) -> None:
        value, bad_somewhere = self._reader.read()
        own = not is_finite(value)
        if not own and not bad_somewhere:
            return
        try:
            if own and self.on_non_finite is not None:
                self.on_non_finite(loss.detach())
        finally:
            # launchers end the other processes when the first one fails
            if self.share_check and process_info()[1] > 1 and bad_somewhere:
                dist.barrier()
        if not own:
            raise NonFiniteLossError(
                'The loss of another process is not finite: no step was made. '
                'See the message of that process.'
            )
        raise NonFiniteLossError(
            f'The loss is {value}: no step was made. Lower the learning rate '
            'or lengthen its warm-up, train in bfloat16 or without mixed '
            'precision, and look for damaged images in the batch. '
            'mmdense.NonFiniteLossHook saves the step for '
            'tools/analysis_tools/replay_step.py.'
        )

    def step(self, **kwargs: Any) -> None:
        """Clip, drop, and make the optimiser's step."""
        self.grad_norm = None
        if self._dropped and not self.clip_grad_kwargs:
            self._unscale()
            self._drop()
        super().step(**kwargs)

    def _unscale(self) -> None:
        """Take the factor of loss scaling out of the gradients."""

    def _clip_grad(self) -> None:
        params = [
            p
            for group in self.optimizer.param_groups
            for p in group['params']
            if p.requires_grad and p.grad is not None
        ]
        if params:
            if self.clip_func is clip_each_:
                grads = [p.grad for p in params]
                self.grad_norm = clip_each_(grads, **self.clip_grad_kwargs)
            else:
                # None from clipping by value
                norm = self.clip_func(params, **self.clip_grad_kwargs)
                self.grad_norm = None if norm is None else norm.detach()
        self._drop()

    def _drop(self) -> None:
        for parameter in self._dropped:
            parameter.grad = None


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper, StockAmpOptimWrapper):
    """:class:`OptimWrapper` with automatic mixed precision.

    Gradients are unscaled, clipped, dropped, and only then stepped with.

    Args:
        loss_scale (str, float or dict): As in mmengine. Defaults to
            ``'dynamic'``.
        dtype (str or torch.dtype, optional): As in mmengine. Defaults to
            None.
        use_fsdp (bool): As in mmengine. Defaults to False.
        optimizer (Optimizer): The optimiser.
        accumulative_counts (int): Iterations per step. Defaults to 1.
        clip_grad (dict, optional): As in :class:`OptimWrapper`.
    """

    def _unscale(self) -> None:
        self.loss_scaler.unscale_(self.optimizer)
