"""As few parameter groups as the settings allow."""

from typing import Any, Dict, List, Optional, Tuple, Union

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmdense.registry import OPTIM_WRAPPER_CONSTRUCTORS


def settings_of(group: Dict[str, Any]) -> Tuple:
    """What two groups must share to be one.

    Args:
        group (dict): Group of an optimiser.

    Returns:
        Tuple: Everything but the parameters, hashable.
    """
    return tuple(
        (key, repr(value))
        for key, value in sorted(group.items())
        if key != 'params'
    )


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with equal parameters in one group.

    The stock one makes a group of every parameter, so that the optimiser makes
    hundreds of small steps, and warns of every frozen one, of which a teacher
    has hundreds. Here parameters with equal settings share a group, and
    modules that are frozen as a whole go without a word. The updates are the
    same.

    Args:
        optim_wrapper_cfg (dict): As in mmengine.
        paramwise_cfg (dict, optional): As in mmengine. Defaults to None.
    """

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
        trained = [p.requires_grad for p in module.parameters()]
        if prefix and not any(trained):
            return  # the stock method would warn of each parameter
        # the stock method recurses through this one, and looks for duplicates
        # in the list that it is given
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        groups: List[dict] = []
        super().add_params(groups, module, prefix, is_dcn_module)
        merged: Dict[Tuple, dict] = {}
        for group in groups:
            kept = [p for p in group['params'] if p.requires_grad]
            if not kept:
                continue
            known = merged.setdefault(
                settings_of(group), {**group, 'params': []}
            )
            known['params'] += kept
        params.extend(merged.values())
