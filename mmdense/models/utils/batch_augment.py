"""Flips and colour operations on batches, wherever they are.

Everything random is drawn for the whole batch on the CPU and goes to the
device in one copy; no operation waits for the device.
"""

from typing import Callable, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mmdense.utils.pixel_policy import BLUR_REACH, PixelPolicy, blur_radius

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class PixelDraws(NamedTuple):
    """The random choices for ``B`` images, on the CPU.

    Attributes:
        flip (Tensor): ``(B,)`` bool.
        jitter (Tensor): ``(B,)`` bool.
        factors (Tensor): ``(B, 4)``: brightness, contrast, saturation, hue.
        order (Tensor): ``(B, 4)`` int64, permutations of 0 to 3 in the order
            of ``factors``.
        gray (Tensor): ``(B,)`` bool.
        blur (Tensor): ``(B,)`` bool.
        sigma (Tensor): ``(B,)``, pixels.
        solarize (Tensor): ``(B,)`` bool.
    """

    flip: Tensor
    jitter: Tensor
    factors: Tensor
    order: Tensor
    gray: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor


def draw_pixels(
    policy: PixelPolicy,
    batch: int,
    generator: Optional[torch.Generator] = None,
) -> PixelDraws:
    """Draw for every image of a batch.

    How many numbers are drawn depends on ``batch`` alone.

    Args:
        policy (PixelPolicy): The distributions.
        batch (int): Number of images.
        generator (torch.Generator, optional): On the CPU. Defaults to None,
            torch's global one.

    Returns:
        PixelDraws: The choices.
    """
    chance = torch.rand(5, batch, generator=generator)
    flip, jitter, gray, blur, solarize = (
        chance[row] < probability
        for row, probability in enumerate(
            (
                policy.flip_prob,
                policy.jitter_prob,
                policy.gray_prob,
                policy.blur_prob,
                policy.solarize_prob,
            )
        )
    )
    ranges = [
        (max(0.0, 1.0 - spread), 1.0 + spread)
        for spread in (policy.brightness, policy.contrast, policy.saturation)
    ]
    ranges += [(-policy.hue, policy.hue), policy.sigma]
    low, high = torch.tensor(ranges).T
    values = torch.rand(batch, 5, generator=generator)
    values = low + (high - low) * values
    order = torch.rand(batch, 4, generator=generator).argsort(dim=1)
    return PixelDraws(
        flip,
        jitter,
        values[:, :4],
        order,
        gray,
        blur,
        values[:, 4],
        solarize,
    )


def augment_batch(
    images: Tensor, policy: PixelPolicy, draws: PixelDraws
) -> Tensor:
    """Apply choices to a batch, in the order of the policy.

    The operations of ``mmdense.datasets.transforms.photometric`` in float32,
    without rounding in between, each on the images that it was drawn for.

    Args:
        images (Tensor): RGB ``(B, 3, H, W)``, float32 in [0, 255]. May be
            written to.
        policy (PixelPolicy): Its ``blur_limit`` and ``solarize_threshold``
            count here.
        draws (PixelDraws): Of :func:`draw_pixels`.

    Returns:
        Tensor: ``(B, 3, H, W)``, float32 in [0, 255].
    """
    steps = _steps(policy, draws, min(images.shape[-2:]))
    parts = [rows for _, rows, _ in steps] + [v for _, _, v in steps]
    parts = _send(parts, images.device)
    for index, (operation, _, _) in enumerate(steps):
        rows, values = parts[index].long(), parts[index + len(steps)]
        if len(rows) == len(images):
            images = operation(images, values)
        else:
            changed = operation(images.index_select(0, rows), values)
            images = images.index_copy(0, rows, changed)
    return images


_Operation = Callable[[Tensor, Tensor], Tensor]
_Step = Tuple[_Operation, Tensor, Tensor]


def _steps(policy: PixelPolicy, draws: PixelDraws, side: int) -> List[_Step]:
    """Operations with the rows they change and a value for each row."""
    steps: List[_Step] = []

    def add(operation: _Operation, chosen: Tensor, values: Tensor) -> None:
        rows = chosen.nonzero().flatten()
        if len(rows):
            steps.append((operation, rows, values[rows]))

    nothing = draws.sigma.new_zeros(len(draws.sigma), 0)
    add(_flip, draws.flip, nothing)
    for turn in range(4):
        for kind, operation in enumerate(_ADJUST):
            chosen = draws.jitter & (draws.order[:, turn] == kind)
            add(operation, chosen, draws.factors[:, kind])
    add(_to_gray, draws.gray, nothing)
    if draws.blur.any():
        add(_blur, draws.blur, blur_kernels(draws.sigma, side, policy))
    threshold = float(policy.solarize_threshold)
    add(_solarize, draws.solarize, torch.full_like(draws.sigma, threshold))
    return steps


def _send(parts: List[Tensor], device: torch.device) -> List[Tensor]:
    """Move small tensors in one copy, as float32 (exact below 2**24)."""
    if not parts:
        return parts
    flat = torch.cat([part.flatten().float() for part in parts])
    if device.type == 'cuda':
        flat = flat.pin_memory()
    flat = flat.to(device, non_blocking=True)
    pieces = flat.split([part.numel() for part in parts])
    return [p.view(part.shape) for p, part in zip(pieces, parts)]


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = _per_image(factor)
    return (factor * images + (1 - factor) * other).clamp_(0, 255)


def _flip(images: Tensor, _: Tensor) -> Tensor:
    return images.flip(-1)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * _per_image(factor)).clamp_(0, 255)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = _luma(images).mean(dim=(2, 3), keepdim=True)
    return _blend(images, mean, factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _luma(images), factor)


def _hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of HSV, in sixths of the circle."""
    red, green, blue = images.split(1, dim=1)
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    scale = 1 / chroma.clamp_min(1e-6)
    hue = torch.where(
        value == red,
        (green - blue) * scale,
        torch.where(
            value == green, (blue - red) * scale + 2, (red - green) * scale + 4
        ),
    )
    hue = hue + 6 * _per_image(shift)
    offset = torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)
    place = (hue + offset).remainder(6)
    return value - chroma * torch.minimum(place, 4 - place).clamp_(0, 1)


_ADJUST = (_brightness, _contrast, _saturation, _hue)


def _to_gray(images: Tensor, _: Tensor) -> Tensor:
    return _luma(images).expand_as(images)


def blur_kernels(sigma: Tensor, side: int, policy: PixelPolicy) -> Tensor:
    """Half of a Gaussian kernel for each image; all equally long.

    Args:
        sigma (Tensor): ``(B,)``, pixels, on the CPU.
        side (int): Shorter side of the images.
        policy (PixelPolicy): Gives the largest sigma and the limit.

    Returns:
        Tensor: ``(B, R + 1)``: the middle tap and those beside it. The whole
        kernel sums to 1.
    """
    longest = blur_radius(policy.sigma[1], side, policy.blur_limit)
    # mirroring at the edge needs one more pixel than the kernel reaches
    longest = min(longest, side - 1)
    taps = torch.arange(longest + 1, dtype=torch.float64)
    sigma = sigma.double()[:, None]
    kernels = torch.exp(-0.5 * (taps / sigma) ** 2)
    reach = (BLUR_REACH * sigma).ceil().clamp_min(1)
    kernels = kernels * (taps <= reach)
    total = kernels[:, :1] + 2 * kernels[:, 1:].sum(dim=1, keepdim=True)
    return (kernels / total).float()


def _blur(images: Tensor, kernels: Tensor) -> Tensor:
    radius = kernels.shape[1] - 1
    # sums of shifted images: autocast and TF32 do not touch them
    for dim in (-1, -2):
        length = images.shape[dim]
        pad = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
        padded = F.pad(images, pad, mode='reflect')
        images = images * _per_image(kernels[:, 0])
        for tap in range(1, radius + 1):
            pair = padded.narrow(dim, radius - tap, length)
            pair = pair + padded.narrow(dim, radius + tap, length)
            images.addcmul_(pair, _per_image(kernels[:, tap]))
    return images


def _solarize(images: Tensor, threshold: Tensor) -> Tensor:
    # whole levels from the threshold on are those above this
    bright = images >= _per_image(threshold) - 0.5
    return torch.where(bright, 255 - images, images)
