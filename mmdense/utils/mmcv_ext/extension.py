"""Contents of the stand-in module ``mmcv._ext``."""

import warnings
from types import ModuleType
from typing import Any, Callable, Dict, NoReturn

from . import (
    deform_conv,
    focal_loss,
    modulated_deform_conv,
    ms_deform_attn,
    nms,
    roi_align,
)
from .torchvision_ops import torchvision_ops, torchvision_version

_INSTALL_HINT = (
    'Install the compiled mmcv: `mim install mmcv==2.1.0` (replaces '
    'mmcv-lite; needs a torch that mmcv has wheels for, or a compiler), or '
    'the classic stack of mmdense: `bash tools/setup_env.sh --stack classic`.'
)


def get_compiler_version() -> str:
    """Answer of :func:`mmcv.ops.get_compiler_version`.

    Returns:
        str: A note that the operators are not compiled ones.
    """
    return (
        'none (mmdense stand-in for mmcv._ext, '
        f'torchvision {torchvision_version()})'
    )


def get_compiling_cuda_version() -> str:
    """Answer of :func:`mmcv.ops.get_compiling_cuda_version`.

    Returns:
        str: ``'not available'``, as mmcv says for a build without CUDA.
    """
    return 'not available'


OPERATORS: Dict[str, Callable[..., Any]] = {
    operator.__name__: operator
    for operator in (
        nms.nms,
        nms.softnms,
        nms.nms_match,
        roi_align.roi_align_forward,
        roi_align.roi_align_backward,
        deform_conv.deform_conv_forward,
        deform_conv.deform_conv_backward_input,
        deform_conv.deform_conv_backward_parameters,
        modulated_deform_conv.modulated_deform_conv_forward,
        modulated_deform_conv.modulated_deform_conv_backward,
        ms_deform_attn.ms_deform_attn_forward,
        ms_deform_attn.ms_deform_attn_backward,
        focal_loss.sigmoid_focal_loss_forward,
        focal_loss.sigmoid_focal_loss_backward,
        get_compiler_version,
        get_compiling_cuda_version,
    )
}


def missing_operator(name: str) -> Callable[..., NoReturn]:
    """Make the function that stands for an operator mmdense does not have.

    mmcv checks at import that each operator exists, so it has to be there and
    can only complain when it is used.

    Args:
        name (str): Name of the operator in ``mmcv._ext``.

    Returns:
        Callable: Function that raises :class:`NotImplementedError`.

    Raises:
        AttributeError: If ``name`` starts with an underscore, which no
            operator does.
    """
    if name.startswith('_'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute '{name}'")

    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv operator '{name}' needs the compiled mmcv: this "
            'environment has mmcv-lite, and the operators that mmdense '
            f'offers in its place are {", ".join(sorted(OPERATORS))}. '
            + _INSTALL_HINT
        )

    operator.__name__ = operator.__qualname__ = name
    return operator


def populate(module: ModuleType) -> None:
    """Fill ``mmcv._ext`` and warn if torchvision cannot serve it.

    Args:
        module (ModuleType): The empty module.
    """
    vars(module).update(OPERATORS, __getattr__=missing_operator)
    module.__doc__ = 'Operators of mmcv, by mmdense on torchvision.'
    try:
        torchvision_ops()
    except RuntimeError as error:
        # Much of mmseg and mmdet needs none of these operators, so the import
        # goes on; the operators themselves raise.
        warnings.warn(str(error), stacklevel=2)
