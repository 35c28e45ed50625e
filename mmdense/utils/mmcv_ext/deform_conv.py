"""Deformable convolution (Dai et al. 2017, equations 2 and 3).

mmcv and torchvision lay out offsets (y before x, per deformable group and
kernel position) and masks alike and agree on the border: samples further than
one pixel outside the image are zero.
"""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .torchvision_ops import computing_dtype, torchvision_ops


class Geometry(NamedTuple):
    """Settings of the convolution in the order of torchvision's arguments.

    Attributes:
        stride_h (int): Vertical stride.
        stride_w (int): Horizontal stride.
        pad_h (int): Vertical zero padding.
        pad_w (int): Horizontal zero padding.
        dilation_h (int): Vertical dilation.
        dilation_w (int): Horizontal dilation.
        groups (int): Groups of channels of the convolution.
        deform_groups (int): Groups of channels that share offsets.
    """

    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    groups: int
    deform_groups: int


def check_kernel(weight: Tensor, kernel: Tuple[int, int]) -> None:
    """Compare the shape of the weight with the kernel size.

    Args:
        weight (torch.Tensor): Kernel, shape ``(O, C / groups, kH, kW)``.
        kernel (Tuple[int, int]): Expected height and width.

    Raises:
        ValueError: If they differ.
    """
    if tuple(weight.shape[2:]) != kernel:
        raise ValueError(
            f'deformable convolution: weight of shape {tuple(weight.shape)} '
            f'does not have the kernel size {kernel}'
        )


def _operands(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Optional[Tensor],
    bias: Optional[Tensor],
) -> Tuple[Tensor, ...]:
    """Cast the operands and stand in for an absent mask or bias."""
    dtype = computing_dtype(input)
    if mask is None:
        mask = input.new_zeros((input.shape[0], 1))
    if bias is None:
        bias = input.new_zeros(weight.shape[0])
    return tuple(t.to(dtype) for t in (input, weight, offset, mask, bias))


def convolve(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Optional[Tensor],
    bias: Optional[Tensor],
    geometry: Geometry,
) -> Tensor:
    """Deformable convolution, computed in float32 or float64.

    Args:
        input (torch.Tensor): Features, shape ``(B, C, H, W)``.
        weight (torch.Tensor): Kernel, shape ``(O, C / groups, kH, kW)``.
        offset (torch.Tensor): Offsets in pixels, shape
            ``(B, 2 * deform_groups * kH * kW, H_out, W_out)``.
        mask (torch.Tensor, optional): Factors of the samples, shape
            ``(B, deform_groups * kH * kW, H_out, W_out)``.
        bias (torch.Tensor, optional): Bias, shape ``(O,)``.
        geometry (Geometry): Strides, padding, dilation and groups.

    Returns:
        torch.Tensor: Shape ``(B, O, H_out, W_out)``.
    """
    operands = _operands(input, weight, offset, mask, bias)
    return torchvision_ops().deform_conv2d(
        *operands, *geometry, mask is not None
    )


def _on_edge(
    offset: Tensor, kernel_h: int, kernel_w: int, geometry: Geometry
) -> Tensor:
    """Which coordinates lie exactly one pixel before the image.

    There the interpolation has a kink: mmcv takes the derivative 0 from
    outside, torchvision the one from inside. Padding 1 and offsets that start
    at zero, the usual set-up, put every border sample there.
    """
    batch, _, height, width = offset.shape

    def positions(
        taps: int, dilation: int, outputs: int, stride: int, pad: int
    ) -> Tensor:
        starts = torch.arange(outputs, device=offset.device) * stride - pad
        steps = torch.arange(taps, device=offset.device) * dilation
        return steps[:, None] + starts

    y = positions(
        kernel_h,
        geometry.dilation_h,
        height,
        geometry.stride_h,
        geometry.pad_h,
    )
    x = positions(
        kernel_w, geometry.dilation_w, width, geometry.stride_w, geometry.pad_w
    )
    grid = torch.stack(
        torch.broadcast_tensors(
            y[:, None, :, None],
            x[None, :, None, :],
        ),
        dim=2,
    ).view(1, 1, -1, height, width)
    shape = (batch, geometry.deform_groups, -1, height, width)
    return (offset.reshape(shape) + grid == -1).view(offset.shape)


def convolve_backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Optional[Tensor],
    bias: Optional[Tensor],
    geometry: Geometry,
) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`convolve`, computed in float32 or float64.

    Args:
        grad_output (torch.Tensor): Shape ``(B, O, H_out, W_out)``.
        input (torch.Tensor): Features, shape ``(B, C, H, W)``.
        weight (torch.Tensor): Kernel, shape ``(O, C / groups, kH, kW)``.
        offset (torch.Tensor): Offsets in pixels, shape
            ``(B, 2 * deform_groups * kH * kW, H_out, W_out)``.
        mask (torch.Tensor, optional): Factors of the samples, shape
            ``(B, deform_groups * kH * kW, H_out, W_out)``.
        bias (torch.Tensor, optional): Bias, shape ``(O,)``.
        geometry (Geometry): Strides, padding, dilation and groups.

    Returns:
        Tuple[torch.Tensor, ...]: Gradients of the input, weight, offset, mask
        and bias.
    """
    operands = _operands(input, weight, offset, mask, bias)
    of_input, of_weight, of_offset, of_mask, of_bias = (
        torchvision_ops()._deform_conv2d_backward(
            grad_output.to(operands[0].dtype).contiguous(),
            *operands,
            *geometry,
            mask is not None,
        )
    )
    edge = _on_edge(operands[2], weight.shape[2], weight.shape[3], geometry)
    of_offset = of_offset.masked_fill(edge, 0)
    return of_input, of_weight, of_offset, of_mask, of_bias


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Deformable convolution without mask and bias.

    Args:
        input (torch.Tensor): Features, shape ``(B, C, H, W)``.
        weight (torch.Tensor): Kernel, shape ``(O, C / group, kH, kW)``.
        offset (torch.Tensor): Offsets in pixels, shape
            ``(B, 2 * deformable_group * kH * kW, H_out, W_out)``.
        output (torch.Tensor): Buffer of shape ``(B, O, H_out, W_out)``,
            overwritten.
        columns (torch.Tensor): Unused scratch buffer.
        ones (torch.Tensor): Unused scratch buffer.
        kW (int): Width of the kernel.
        kH (int): Height of the kernel.
        dW (int): Horizontal stride.
        dH (int): Vertical stride.
        padW (int): Horizontal zero padding.
        padH (int): Vertical zero padding.
        dilationW (int): Horizontal dilation.
        dilationH (int): Vertical dilation.
        group (int): Groups of channels of the convolution.
        deformable_group (int): Groups of channels that share offsets.
        im2col_step (int): Unused; torchvision splits the batch itself.

    Raises:
        ValueError: If the kernel size does not fit ``weight``.
    """
    check_kernel(weight, (kH, kW))
    geometry = Geometry(
        dH, dW, padH, padW, dilationH, dilationW, group, deformable_group
    )
    output.copy_(convolve(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Gradients of :func:`deform_conv_forward` for features and offsets.

    Args:
        input (torch.Tensor): As in the forward pass.
        offset (torch.Tensor): As in the forward pass.
        grad_output (torch.Tensor): Gradient of the output, shape
            ``(B, O, H_out, W_out)``.
        grad_input (torch.Tensor): Buffer of the shape of ``input``, to which
            its gradient is added.
        grad_offset (torch.Tensor): Buffer of the shape of ``offset``,
            overwritten by its gradient.
        weight (torch.Tensor): As in the forward pass.
        columns (torch.Tensor): Unused scratch buffer.
        kW (int): As in the forward pass, like the following ones.
        kH (int): Height of the kernel.
        dW (int): Horizontal stride.
        dH (int): Vertical stride.
        padW (int): Horizontal zero padding.
        padH (int): Vertical zero padding.
        dilationW (int): Horizontal dilation.
        dilationH (int): Vertical dilation.
        group (int): Groups of channels of the convolution.
        deformable_group (int): Groups of channels that share offsets.
        im2col_step (int): Unused.
    """
    check_kernel(weight, (kH, kW))
    geometry = Geometry(
        dH, dW, padH, padW, dilationH, dilationW, group, deformable_group
    )
    gradients = convolve_backward(
        grad_output, input, weight, offset, None, None, geometry
    )
    grad_input.add_(gradients[0])
    grad_offset.copy_(gradients[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Gradient of :func:`deform_conv_forward` for the kernel.

    torchvision computes all gradients at once, so with
    :func:`deform_conv_backward_input` the backward pass is done twice.

    Args:
        input (torch.Tensor): As in the forward pass.
        offset (torch.Tensor): As in the forward pass.
        grad_output (torch.Tensor): Gradient of the output, shape
            ``(B, O, H_out, W_out)``.
        grad_weight (torch.Tensor): Buffer of the shape of the kernel, to
            which ``scale`` times its gradient is added.
        columns (torch.Tensor): Unused scratch buffer.
        ones (torch.Tensor): Unused scratch buffer.
        kW (int): As in the forward pass, like the following ones.
        kH (int): Height of the kernel.
        dW (int): Horizontal stride.
        dH (int): Vertical stride.
        padW (int): Horizontal zero padding.
        padH (int): Vertical zero padding.
        dilationW (int): Horizontal dilation.
        dilationH (int): Vertical dilation.
        group (int): Groups of channels of the convolution.
        deformable_group (int): Groups of channels that share offsets.
        scale (float): Factor of the gradient.
        im2col_step (int): Unused.
    """
    check_kernel(grad_weight, (kH, kW))
    geometry = Geometry(
        dH, dW, padH, padW, dilationH, dilationW, group, deformable_group
    )
    # The gradient of the kernel does not depend on the kernel's values.
    kernel = torch.zeros_like(grad_weight)
    gradients = convolve_backward(
        grad_output, input, kernel, offset, None, None, geometry
    )
    grad_weight.add_(gradients[1].to(grad_weight), alpha=scale)
