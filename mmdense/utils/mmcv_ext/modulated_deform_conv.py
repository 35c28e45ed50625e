"""Modulated deformable convolution (Zhu et al. 2019, equation 1)."""

from torch import Tensor

from .deform_conv import Geometry, check_kernel, convolve, convolve_backward


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Deformable convolution with a mask on the samples.

    Args:
        input (torch.Tensor): Features, shape ``(B, C, H, W)``.
        weight (torch.Tensor): Kernel, shape
            ``(O, C / group, kernel_h, kernel_w)``.
        bias (torch.Tensor): Bias, shape ``(O,)``; ignored without
            ``with_bias``.
        ones (torch.Tensor): Unused scratch buffer.
        offset (torch.Tensor): Offsets in pixels, shape
            ``(B, 2 * deformable_group * kernel_h * kernel_w, H_out, W_out)``.
        mask (torch.Tensor): Factors of the samples, shape
            ``(B, deformable_group * kernel_h * kernel_w, H_out, W_out)``.
        output (torch.Tensor): Buffer of shape ``(B, O, H_out, W_out)``,
            overwritten.
        columns (torch.Tensor): Unused scratch buffer.
        kernel_h (int): Height of the kernel.
        kernel_w (int): Width of the kernel.
        stride_h (int): Vertical stride.
        stride_w (int): Horizontal stride.
        pad_h (int): Vertical zero padding.
        pad_w (int): Horizontal zero padding.
        dilation_h (int): Vertical dilation.
        dilation_w (int): Horizontal dilation.
        group (int): Groups of channels of the convolution.
        deformable_group (int): Groups of channels that share offsets.
        with_bias (bool): Whether to add the bias.

    Raises:
        ValueError: If the kernel size does not fit ``weight``.
    """
    check_kernel(weight, (kernel_h, kernel_w))
    geometry = Geometry(
        stride_h,
        stride_w,
        pad_h,
        pad_w,
        dilation_h,
        dilation_w,
        group,
        deformable_group,
    )
    shift = bias if with_bias else None
    output.copy_(convolve(input, weight, offset, mask, shift, geometry))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Gradients of :func:`modulated_deform_conv_forward`.

    Args:
        input (torch.Tensor): As in the forward pass.
        weight (torch.Tensor): As in the forward pass.
        bias (torch.Tensor): As in the forward pass.
        ones (torch.Tensor): Unused scratch buffer.
        offset (torch.Tensor): As in the forward pass.
        mask (torch.Tensor): As in the forward pass.
        columns (torch.Tensor): Unused scratch buffer.
        grad_input (torch.Tensor): Buffer to which the gradient is added.
        grad_weight (torch.Tensor): Buffer to which the gradient is added.
        grad_bias (torch.Tensor): Buffer to which the gradient is added;
            ignored without ``with_bias``.
        grad_offset (torch.Tensor): Buffer overwritten by the gradient.
        grad_mask (torch.Tensor): Buffer overwritten by the gradient.
        grad_output (torch.Tensor): Gradient of the output, shape
            ``(B, O, H_out, W_out)``.
        kernel_h (int): As in the forward pass, like the following ones.
        kernel_w (int): Width of the kernel.
        stride_h (int): Vertical stride.
        stride_w (int): Horizontal stride.
        pad_h (int): Vertical zero padding.
        pad_w (int): Horizontal zero padding.
        dilation_h (int): Vertical dilation.
        dilation_w (int): Horizontal dilation.
        group (int): Groups of channels of the convolution.
        deformable_group (int): Groups of channels that share offsets.
        with_bias (bool): Whether a bias was added.
    """
    check_kernel(weight, (kernel_h, kernel_w))
    geometry = Geometry(
        stride_h,
        stride_w,
        pad_h,
        pad_w,
        dilation_h,
        dilation_w,
        group,
        deformable_group,
    )
    shift = bias if with_bias else None
    gradients = convolve_backward(
        grad_output, input, weight, offset, mask, shift, geometry
    )
    grad_input.add_(gradients[0])
    grad_weight.add_(gradients[1])
    grad_offset.copy_(gradients[2])
    grad_mask.copy_(gradients[3])
    if with_bias:
        grad_bias.add_(gradients[4])
