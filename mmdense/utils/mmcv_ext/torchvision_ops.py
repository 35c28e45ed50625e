"""Access to torchvision's compiled operators."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch


def torchvision_version() -> str:
    """Version of the installed torchvision, without importing it.

    Returns:
        str: Its version, or ``'not installed'``.
    """
    try:
        return version('torchvision')
    except PackageNotFoundError:
        return 'not installed'


def torchvision_ops() -> Any:
    """Namespace of torchvision's compiled operators.

    The operators are called directly: :func:`torchvision.ops.roi_align` falls
    back silently on a pure-torch path, some fifty times slower, when they are
    not loaded.

    Returns:
        Any: ``torch.ops.torchvision``.

    Raises:
        RuntimeError: If torchvision cannot be imported or its compiled
            library does not load.
    """
    try:
        from torchvision.extension import _assert_has_ops

        _assert_has_ops()
    # A torchvision built for another torch fails in many ways at import.
    except Exception as error:
        raise RuntimeError(
            "mmdense replaces mmcv's compiled operators by torchvision's, "
            'and those cannot be loaded: torchvision '
            f'{torchvision_version()} does not fit torch '
            f'{torch.__version__} ({type(error).__name__}: '
            f'{str(error).splitlines()[0] if str(error) else ""}). Install '
            'the torchvision that was released with this torch, from the '
            'same index, or the compiled mmcv.'
        ) from error
    return torch.ops.torchvision


def computing_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Type in which an operator computes.

    Half types are computed in float32: torchvision's kernels do not take
    bfloat16 everywhere, and coordinates (boxes, offsets) of some hundred
    pixels lose their fractions in half precision.

    Args:
        tensor (torch.Tensor): Input of the operator.

    Returns:
        torch.dtype: float64 for float64 inputs, else float32.
    """
    is_double = tensor.dtype == torch.float64
    return torch.float64 if is_double else torch.float32
