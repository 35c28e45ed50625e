"""RoIAlign (He et al. 2017, section 3) with average pooling."""

from torch import Tensor

from .torchvision_ops import computing_dtype, torchvision_ops

_AVERAGE = 1


def _check(rois: Tensor, batch_size: int, pool_mode: int) -> None:
    if pool_mode != _AVERAGE:
        raise NotImplementedError(
            "RoIAlign: pool_mode='max' needs the compiled mmcv "
            "(`mim install mmcv==2.1.0`); without it use pool_mode='avg'."
        )
    # On the CPU only: on a GPU the host would have to wait for the values.
    if rois.device.type == 'cpu' and len(rois):
        low, high = rois[:, 0].min(), rois[:, 0].max()
        if not (low >= 0 and high < batch_size):
            raise ValueError(
                'RoIAlign: the first column of rois must index the batch, '
                f'0 to {batch_size - 1}, got {low:g} to {high:g}'
            )


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool a grid of bins from each region of interest.

    Args:
        input (torch.Tensor): Feature maps, shape ``(B, C, H, W)``.
        rois (torch.Tensor): Rows ``(batch index, x1, y1, x2, y2)`` in image
            pixels, shape ``(K, 5)``.
        output (torch.Tensor): Buffer of shape ``(K, C, aligned_height,
            aligned_width)``, overwritten.
        argmax_y (torch.Tensor): Unused buffer of max pooling.
        argmax_x (torch.Tensor): Unused buffer of max pooling.
        aligned_height (int): Bins per region, vertically.
        aligned_width (int): Bins per region, horizontally.
        spatial_scale (float): Feature pixels per image pixel.
        sampling_ratio (int): Samples per bin and axis; 0 takes as many as the
            bin has pixels.
        pool_mode (int): 1 for the average; 0 (max) is not available.
        aligned (bool): Whether pixel centres lie at half-integer coordinates.

    Raises:
        NotImplementedError: If ``pool_mode`` is 0.
        ValueError: If a batch index is out of range (checked on the CPU).
    """
    _check(rois, input.shape[0], pool_mode)
    dtype = computing_dtype(input)
    pooled = torchvision_ops().roi_align(
        input.to(dtype),
        rois.to(dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        sampling_ratio,
        aligned,
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward` for its feature maps.

    Args:
        grad_output (torch.Tensor): Gradient of the output, shape
            ``(K, C, aligned_height, aligned_width)``.
        rois (torch.Tensor): As in the forward pass.
        argmax_y (torch.Tensor): Unused buffer of max pooling.
        argmax_x (torch.Tensor): Unused buffer of max pooling.
        grad_input (torch.Tensor): Buffer of shape ``(B, C, H, W)``, to which
            the gradient is added.
        aligned_height (int): As in the forward pass.
        aligned_width (int): As in the forward pass.
        spatial_scale (float): As in the forward pass.
        sampling_ratio (int): As in the forward pass.
        pool_mode (int): As in the forward pass.
        aligned (bool): As in the forward pass.

    Raises:
        NotImplementedError: If ``pool_mode`` is 0.
    """
    _check(rois, grad_input.shape[0], pool_mode)
    dtype = computing_dtype(grad_output)
    gradient = torchvision_ops()._roi_align_backward(
        grad_output.to(dtype),
        rois.to(dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.add_(gradient)
