"""Bytes to normalised crops on the device, augmented there if wanted."""

from dataclasses import fields
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmpretrain.models.utils import SelfSupDataPreprocessor
from torch import Tensor

from mmdense.registry import MODELS

from ...utils.errors import UserValueError
from ...utils.pixel_policy import PixelPolicy
from ..utils.batch_augment import augment_batch, draw_pixels

_KEYS = {field.name for field in fields(PixelPolicy)}
# what MultiViewCrops has dealt with
_CROP_KEYS = {'size', 'num', 'scale', 'ratio', 'interpolation'}


class CropListError(UserValueError):
    """Crops that do not make up a batch."""


@MODELS.register_module()
class MultiCropPreprocessor(SelfSupDataPreprocessor):
    """Move uint8 crops to the device, augment and normalise them there.

    Without ``augment`` it is ``mmpretrain.SelfSupDataPreprocessor`` with a
    check of the crops. With it, the loader only decodes, crops and resizes,
    and flips and colours change here, in training only: in float32, all
    images of one kind of view together, with choices drawn from torch's CPU
    generator (:class:`mmdense.StepSeedHook` seeds it in each step, so that
    a resumed run draws the same). Results are those of the loader's uint8
    operations up to their rounding; the random numbers are others.

    Args:
        mean (Sequence[float], optional): Of R, G, B in [0, 255]. Defaults to
            None, not normalised.
        std (Sequence[float], optional): As ``mean``. Defaults to None.
        augment (List[dict], optional): One dict for each kind of view, the
            ``views`` of :class:`mmdense.MultiViewCrops`; that transform has
            to be given ``crop_only=True``. Defaults to None.
        bgr_to_rgb (bool): Swap channels first. Defaults to False: the
            pipelines of mmdense give RGB.
        non_blocking (bool): Copy to the device beside other work; needs
            ``pin_memory=True`` in the loader. Defaults to False.

    Raises:
        ValueError: If a key or value of ``augment`` is wrong.

    Example:
        With a file that names its views (as the ``*_multi_crop.py`` and
        ``*_moby_two_view.py`` ones in ``configs/_base_/datasets`` do)::

            _base_ = ['../_base_/datasets/imagenet_multi_crop.py', ...]
            views = _base_.views
            train_dataloader = dict(
                dataset=dict(
                    pipeline=[
                        dict(
                            type='mmdense.MultiViewCrops',
                            views=views,
                            crop_only=True,
                        ),
                        dict(type='mmpretrain.PackInputs'),
                    ]
                )
            )
            model = dict(
                data_preprocessor=dict(
                    type='mmdense.MultiCropPreprocessor',
                    augment=views,
                    non_blocking=True,
                )
            )
    """

    def __init__(
        self,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        augment: Optional[Sequence[Dict[str, Any]]] = None,
        bgr_to_rgb: bool = False,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(
            mean=mean,
            std=std,
            bgr_to_rgb=bgr_to_rgb,
            non_blocking=non_blocking,
        )
        # (views of the kind, policy)
        self.kinds: List[Tuple[int, PixelPolicy]] = []
        for view in augment or ():
            unknown = sorted(set(view) - _KEYS - _CROP_KEYS)
            if unknown:
                raise ValueError(
                    f'MultiCropPreprocessor.augment: unknown keys {unknown}; '
                    'it takes those of MultiViewCrops.views.'
                )
            policy = {key: view[key] for key in view if key in _KEYS}
            self.kinds.append((view.get('num', 1), PixelPolicy(**policy)))

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): Of the loader: ``inputs``, a list of crops, each
                ``(B, 3, H, W)``, uint8 (or float in [0, 255]), and
                ``data_samples``. One tensor instead of a list is normalised
                as it is.
            training (bool): Whether to augment. Defaults to False.

        Returns:
            dict: ``inputs``, the crops as float32 on the device, and
            ``data_samples``.

        Raises:
            CropListError: If the crops hold different numbers of images, or
                are not those that ``augment`` describes.
        """
        inputs, samples = data['inputs'], data.get('data_samples')
        if isinstance(inputs, Tensor):
            return super().forward(
                dict(inputs=inputs, data_samples=samples), training
            )
        inputs = list(inputs)
        check_crops(inputs)
        data = dict(inputs=inputs, data_samples=samples)
        if not (training and self.kinds):
            return super().forward(data, training)
        wanted = sum(number for number, _ in self.kinds)
        if wanted != len(inputs):
            raise CropListError(
                f'MultiCropPreprocessor.augment describes {wanted} crops, '
                f'the batch has {len(inputs)}. Give it the views of the '
                'MultiViewCrops that made the batch.'
            )
        data = self.cast_data(data)
        crops: List[Tensor] = []
        for number, policy in self.kinds:
            kind = data['inputs'][len(crops) : len(crops) + number]
            crops += self._augment(kind, policy)
        return dict(inputs=crops, data_samples=data['data_samples'])

    def _augment(
        self, kind: List[Tensor], policy: PixelPolicy
    ) -> List[Tensor]:
        shapes = [tuple(crop.shape[1:]) for crop in kind]
        if len(set(shapes)) > 1:
            raise CropListError(
                'MultiCropPreprocessor.augment: crops of one kind differ in '
                f'shape: {shapes}.'
            )
        images = torch.cat(kind).to(torch.float32, copy=True)
        if self._channel_conversion:
            images = images.flip(1)
        draws = draw_pixels(policy, len(images))
        images = augment_batch(images, policy, draws)
        if self._enable_normalize:
            images = (images - self.mean) / self.std
        return list(images.chunk(len(kind)))


def check_crops(crops: Sequence[Any]) -> None:
    """Refuse crops that do not belong to the same images.

    Args:
        crops (Sequence[Tensor]): Each ``(B, C, H, W)``.

    Raises:
        CropListError: If there are none, one is no such tensor, or they
            differ in ``B``.
    """
    if not crops:
        raise CropListError('The batch has no crops: inputs is empty.')
    for index, crop in enumerate(crops):
        if not isinstance(crop, Tensor) or crop.dim() != 4:
            found = (
                f'a tensor of shape {tuple(crop.shape)}'
                if isinstance(crop, Tensor)
                else type(crop).__name__
            )
            raise CropListError(
                f'inputs[{index}] is {found}, not a batch of crops (B, C, H, '
                "W). Use collate_fn=dict(type='default_collate') in the "
                'loader: it stacks the first crops of all images, then the '
                'second, and so on.'
            )
    sizes = [len(crop) for crop in crops]
    if len(set(sizes)) > 1:
        raise CropListError(
            f'The crops hold different numbers of images: {sizes}. Each has '
            'to show every image of the batch once; look for a transform or '
            'collate_fn that leaves some out.'
        )
