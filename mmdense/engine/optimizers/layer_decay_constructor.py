"""Layer-wise learning-rate decay for backbones inside any toolbox."""

from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmdense.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .grouped_constructor import settings_of

Depth = Callable[[str], Tuple[int, int]]


def _unwrap(module: Any, prefix: str) -> Tuple[Any, str]:
    """Look behind DDP and ``torch.compile``; names get longer there."""
    while True:
        if is_model_wrapper(module):
            module, prefix = module.module, prefix + 'module.'
        elif hasattr(module, '_orig_mod'):
            module, prefix = module._orig_mod, prefix + '_orig_mod.'
        else:
            return module, prefix


def layer_depth_function(model: nn.Module) -> Depth:
    """Function that gives the depth of each parameter of a model.

    Args:
        model (nn.Module): A model with a ``backbone`` that knows the depth
            of its parameters, or such a backbone itself; either may be
            wrapped.

    Returns:
        Callable[[str], Tuple[int, int]]: Maps a parameter's name in
        ``model`` to its depth and the number of depths. Everything outside
        the backbone has the last depth.

    Raises:
        TypeError: If the backbone does not know.
    """
    inner, start = _unwrap(model, '')
    backbone = getattr(inner, 'backbone', inner)
    if backbone is not inner:
        start += 'backbone.'
    backbone, prefix = _unwrap(backbone, start)
    if not hasattr(backbone, 'get_layer_depth'):
        raise TypeError(
            f'Layer-wise learning-rate decay needs a backbone with '
            f'get_layer_depth, {type(backbone).__name__} has none. Use '
            'mmdense.VisionTransformer, mmdense.SwinTransformer or '
            'mmpretrain.VisionTransformer / SwinTransformer.'
        )
    return lambda name: backbone.get_layer_depth(name, prefix=prefix)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Smaller learning rates for earlier layers of the backbone.

    With ``L`` layers and rate ``r`` the parameters of layer ``i`` (from 0)
    get ``lr * r ** (L - i)``, the patch, class and position embeddings
    ``lr * r ** (L + 1)``, the final norm and everything after the backbone
    ``lr``. The rule of BEiT; the stock constructors apply it only to models
    of their own toolbox.

    All other entries of ``paramwise_cfg`` mean what they mean in mmengine's
    ``DefaultOptimWrapperConstructor``; learning-rate factors multiply.
    Frozen parameters are left out, parameters with equal settings share a
    group.

    Example:
        ``paramwise_cfg=dict(layer_decay_rate=0.75, norm_decay_mult=0.0,
        bias_decay_mult=0.0, flat_decay_mult=0.0, custom_keys={'pos_embed':
        dict(decay_mult=0.0), 'cls_token': dict(decay_mult=0.0)})``

    Args:
        optim_wrapper_cfg (dict): As in mmengine; ``optimizer`` needs ``lr``.
        paramwise_cfg (dict): As in mmengine, and ``layer_decay_rate``
            (float), above 0, at most 1.

    Raises:
        ValueError: If ``layer_decay_rate`` or ``lr`` is missing or out of
            range.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(
                'optim_wrapper.paramwise_cfg.layer_decay_rate must be above '
                f'0 and at most 1, got {rate!r}.'
            )
        if self.base_lr is None:
            raise ValueError(
                'optim_wrapper.optimizer.lr is missing; layer-wise decay '
                'needs a base learning rate.'
            )
        self.rate = float(rate)
        self.lr = float(self.base_lr)

    def add_params(
        self,
        params: List[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: Optional[Union[int, float]] = None,
    ) -> None:
        """Add the parameters of a module, as groups.

        Args:
            params (List[dict]): Groups, extended in place.
            module (nn.Module): Module to add.
            prefix (str): Its name in the model. Defaults to ``''``.
            is_dcn_module (int or float, optional): As in mmengine.
        """
        # the stock method recurses through this one, and looks for duplicates
        # in the list that it is given
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        groups: List[dict] = []
        super().add_params(groups, module, prefix, is_dcn_module)
        names = {id(p): name for name, p in module.named_parameters()}
        depth = layer_depth_function(module)
        merged: Dict[Tuple, dict] = {}
        for group in groups:
            index, count = depth(names[id(group['params'][0])])
            scale = self.rate ** (count - 1 - index)
            # already applied; as keys they would keep groups apart
            group.pop('decay_mult', None)
            group.pop('lr_mult', None)
            group['lr'] = group.get('lr', self.lr) * scale
            group['layer_depth'] = index
            group['lr_scale'] = scale
            known = merged.setdefault(settings_of(group), group)
            if known is not group:
                known['params'].extend(group['params'])
        params.extend(merged.values())
        self._log(params)

    def _log(self, groups: List[dict]) -> None:
        rates: Dict[int, Tuple[float, int]] = {}
        for group in groups:
            index = group['layer_depth']
            count = rates.get(index, (0.0, 0))[1] + len(group['params'])
            rates[index] = (group['lr_scale'], count)
        lines = [
            f'  depth {index}: lr x {scale:.4g}, {count} tensors'
            for index, (scale, count) in sorted(rates.items())
        ]
        print_log(
            f'Layer-wise learning rates, decay {self.rate}:\n'
            + '\n'.join(lines),
            logger='current',
        )
