"""What happens to one view: distributions, draws and their application."""

import random
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, Optional, Tuple, Union

import cv2
import numpy as np

from mmdense.utils.pixel_policy import PixelPolicy, Range

from . import photometric
from .crops import INTERPOLATIONS, CropBox, crop_resize, sample_crop


@dataclass
class ViewDraw:
    """The random choices of one view.

    Attributes:
        box (CropBox): Crop in pixels of the source image.
        size (Tuple[int, int]): Output ``(height, width)``.
        flip (bool): Flipped horizontally.
        jitter (Dict[str, Any], optional): Arguments of
            :func:`photometric.color_jitter`; None if it is left out.
        gray (bool): Without colour.
        sigma (float, optional): Of the blur, in output pixels; None if it
            is left out.
        solarize (bool): Solarised.
    """

    box: CropBox
    size: Tuple[int, int]
    flip: bool = False
    jitter: Optional[Dict[str, Any]] = None
    gray: bool = False
    sigma: Optional[float] = None
    solarize: bool = False

    def to_dict(self) -> Dict[str, Any]:
        """The same as a dict, with the box as a :class:`CropBox`."""
        return {**asdict(self), 'box': self.box}


@dataclass
class ViewPolicy(PixelPolicy):
    """Distributions of the augmentations of one kind of view.

    A crop, then what :class:`~mmdense.utils.pixel_policy.PixelPolicy` does
    to its pixels; all arguments of that class are arguments here too.

    Args:
        size (int or Tuple[int, int]): Output side, or height and width.
            Defaults to 224.
        num (int): Views of this kind. Defaults to 1.
        scale (Tuple[float, float]): Share of the source's area, uniform.
            Defaults to (0.08, 1.0).
        ratio (Tuple[float, float]): Width / height of the crop,
            log-uniform. Defaults to (3 / 4, 4 / 3).
        interpolation (str): ``'bicubic'`` (DINO, SimCLR) or ``'bilinear'``
            (MoBY), both with antialiasing as in Pillow. Defaults to
            'bicubic'.

    Raises:
        ValueError: If a value is out of its range.
    """

    size: Union[int, Tuple[int, int]] = 224
    num: int = 1
    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    interpolation: str = 'bicubic'
    shape: Tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.size
        height, width = (size, size) if isinstance(size, int) else size
        self.shape = (height, width)
        self.check_range('scale', high=1.0)
        self.check_range('ratio')
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f'interpolation={self.interpolation!r}: use one of '
                f'{INTERPOLATIONS}.'
            )
        if min(self.shape) < 1 or self.num < 1:
            raise ValueError(
                f'size={size} and num={self.num} must be positive.'
            )

    def crop_only(self) -> 'ViewPolicy':
        """The same crops, with their pixels left as they are.

        Returns:
            ViewPolicy: With all other probabilities at zero.
        """
        return replace(
            self,
            flip_prob=0.0,
            jitter_prob=0.0,
            gray_prob=0.0,
            blur_prob=0.0,
            solarize_prob=0.0,
        )

    def draw(self, width: int, height: int) -> ViewDraw:
        """Draw a view of an image from Python's global generator.

        The number of draws does not depend on the pixels, so views can be
        drawn before anything is decoded.

        Args:
            width (int): Width of the source image.
            height (int): Its height.

        Returns:
            ViewDraw: The choices.
        """
        view = ViewDraw(
            sample_crop(width, height, self.scale, self.ratio), self.shape
        )
        view.flip = random.random() < self.flip_prob
        if random.random() < self.jitter_prob:
            factors = {
                name: random.uniform(max(0.0, 1.0 - spread), 1.0 + spread)
                for name, spread in (
                    ('brightness', self.brightness),
                    ('contrast', self.contrast),
                    ('saturation', self.saturation),
                )
            }
            view.jitter = dict(
                factors,
                hue=random.uniform(-self.hue, self.hue),
                order=tuple(random.sample(range(4), 4)),
            )
        view.gray = random.random() < self.gray_prob
        if random.random() < self.blur_prob:
            view.sigma = random.uniform(*self.sigma)
        view.solarize = random.random() < self.solarize_prob
        return view

    def apply(
        self, image: np.ndarray, view: ViewDraw, reduction: int = 1
    ) -> np.ndarray:
        """Make a view.

        Args:
            image (np.ndarray): Source, RGB ``(H, W, 3)``, uint8.
            view (ViewDraw): Of :meth:`draw`.
            reduction (int): ``image`` is the source reduced by this factor.
                Defaults to 1.

        Returns:
            np.ndarray: ``(height, width, 3)``, uint8, RGB. Its memory is
            ordered by channel, so that packing it as ``(3, height, width)``
            copies nothing.
        """
        pixels = self.cut(image, view, reduction)
        pixels = self.recolor(pixels, view)
        pixels = self.soften(pixels, view)
        return self.pack(pixels)

    def cut(
        self, image: np.ndarray, view: ViewDraw, reduction: int = 1
    ) -> np.ndarray:
        """Crop, resize and flip."""
        pixels = crop_resize(
            image, view.box, view.size, reduction, self.interpolation
        )
        return cv2.flip(pixels, 1) if view.flip else pixels

    def recolor(self, pixels: np.ndarray, view: ViewDraw) -> np.ndarray:
        """Jitter and loss of colour; a grey view has one channel."""
        if view.jitter is not None:
            pixels = photometric.color_jitter(pixels, **view.jitter)
        return photometric.to_gray(pixels) if view.gray else pixels

    def soften(self, pixels: np.ndarray, view: ViewDraw) -> np.ndarray:
        """Blur and solarise."""
        if view.sigma is not None:
            pixels = photometric.gaussian_blur(
                pixels, view.sigma, self.blur_limit
            )
        if view.solarize:
            pixels = photometric.solarize(pixels, self.solarize_threshold)
        return pixels

    @staticmethod
    def pack(pixels: np.ndarray) -> np.ndarray:
        """View of shape ``(H, W, 3)`` of memory ordered as ``(3, H, W)``."""
        planes = np.empty((3, *pixels.shape[:2]), np.uint8)
        if pixels.ndim == 2:
            planes[:] = pixels
        else:
            cv2.split(pixels, [planes[0], planes[1], planes[2]])
        return planes.transpose(1, 2, 0)
