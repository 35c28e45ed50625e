"""Colour operations on small RGB images, all uint8 in and out.

Each does what the function of the same name in
``torchvision.transforms.functional`` does to 8-bit images, in one or two
vectorised passes. Operations that map every channel by itself are lookup
tables; tables in a row are merged before they touch pixels.
"""

from typing import Optional, Sequence

import cv2
import numpy as np

from mmdense.utils.pixel_policy import blur_radius

_LUMA = np.array([0.299, 0.587, 0.114])
_RAMP = np.arange(256, dtype=np.float64)

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def _blend_table(factor: float, other: float = 0.0) -> np.ndarray:
    """Table of ``factor * x + (1 - factor) * other``, cut to 8 bits."""
    values = factor * _RAMP + (1.0 - factor) * other
    return np.clip(values, 0, 255).astype(np.uint8)


def _mean_luma(image: np.ndarray) -> float:
    return cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply an image.

    Args:
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.
        factor (float): At least 0; 1 changes nothing.

    Returns:
        np.ndarray: New image.
    """
    return cv2.LUT(image, _blend_table(factor))


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Move an image away from (or to) its mean grey.

    Args:
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.
        factor (float): At least 0; 0 gives plain grey, 1 changes nothing.

    Returns:
        np.ndarray: New image.
    """
    return cv2.LUT(image, _blend_table(factor, _mean_luma(image)))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Move every pixel away from (or to) its own grey.

    Args:
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.
        factor (float): At least 0; 0 gives a grey image, 1 changes nothing.

    Returns:
        np.ndarray: New image.
    """
    matrix = factor * np.eye(3) + (1.0 - factor) * _LUMA[None, :]
    return cv2.transform(image, matrix.astype(np.float32))


def adjust_hue(image: np.ndarray, factor: float) -> np.ndarray:
    """Turn the colour circle.

    Args:
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.
        factor (float): Share of the circle, in [-0.5, 0.5].

    Returns:
        np.ndarray: New image.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hue = hsv[..., 0]
    np.add(hue, np.uint8(round(factor * 256) % 256), out=hue)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def color_jitter(
    image: np.ndarray,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    order: Sequence[int] = (BRIGHTNESS, CONTRAST, SATURATION, HUE),
) -> np.ndarray:
    """The four adjustments in a given order.

    Args:
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.
        brightness (float): Factor, see :func:`adjust_brightness`.
        contrast (float): Factor, see :func:`adjust_contrast`.
        saturation (float): Factor, see :func:`adjust_saturation`.
        hue (float): Shift, see :func:`adjust_hue`.
        order (Sequence[int]): Permutation of 0 (brightness), 1 (contrast),
            2 (saturation) and 3 (hue).

    Returns:
        np.ndarray: New image.
    """
    table: Optional[np.ndarray] = None
    for operation in order:
        if operation == BRIGHTNESS:
            step = _blend_table(brightness)
            table = step if table is None else step[table]
            continue
        if table is not None:
            # the next operation looks at the colours themselves
            image, table = cv2.LUT(image, table), None
        if operation == CONTRAST:
            table = _blend_table(contrast, _mean_luma(image))
        elif operation == SATURATION:
            image = adjust_saturation(image, saturation)
        else:
            image = adjust_hue(image, hue)
    return image if table is None else cv2.LUT(image, table)


def to_gray(image: np.ndarray) -> np.ndarray:
    """Luma (ITU-R BT.601) of an image.

    Args:
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.

    Returns:
        np.ndarray: ``(H, W)``, uint8.
    """
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def gaussian_blur(
    image: np.ndarray, sigma: float, limit: Optional[float] = 0.1
) -> np.ndarray:
    """Gaussian blur.

    Taps beyond 3.5 sigma are left out. Edges are mirrored.

    Args:
        image (np.ndarray): ``(H, W)`` or ``(H, W, 3)``, uint8.
        sigma (float): Standard deviation in pixels.
        limit (float, optional): Width of the kernel as a share of the
            shorter side, at most; None for no limit. Defaults to 0.1, as in
            SimCLR.

    Returns:
        np.ndarray: New image.
    """
    radius = blur_radius(sigma, min(image.shape[:2]), limit)
    kernel = cv2.getGaussianKernel(2 * radius + 1, sigma, cv2.CV_32F)
    # faster than cv2.GaussianBlur, and closer to the float result
    return cv2.sepFilter2D(image, -1, kernel, kernel)


def solarize(image: np.ndarray, threshold: int = 128) -> np.ndarray:
    """Invert the values from a threshold on.

    Args:
        image (np.ndarray): ``(H, W)`` or ``(H, W, 3)``, uint8.
        threshold (int): In [0, 256]. Defaults to 128.

    Returns:
        np.ndarray: New image.
    """
    ramp = np.arange(256)
    table = np.where(ramp < threshold, ramp, 255 - ramp)
    return cv2.LUT(image, table.astype(np.uint8))
