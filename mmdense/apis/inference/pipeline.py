"""A test pipeline for images that have no annotations."""

from copy import deepcopy
from typing import Callable, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from mmengine.config import ConfigDict
from mmengine.dataset import Compose
from mmengine.logging import print_log

from ...utils.errors import UserValueError

_LOADERS = ('LoadImageFromFile', 'LoadImage')
# windows of evaluation protocols; a picture is wanted as a whole
CROPS = ('KBCrop', 'FixedCrop', 'CenterCrop', 'ResetOriShape')


def is_annotation(kind: str) -> bool:
    """Whether a step loads what only data sets have.

    Args:
        kind (str): Type of a step, without scope.

    Returns:
        bool: True for annotations.
    """
    return kind.startswith('Load') and 'Annotation' in kind


class InferencePipeline:
    """A test pipeline without its annotations, for files and arrays.

    Args:
        steps (List[ConfigDict]): The pipeline of the test data.
        drop (Callable[[str], bool]): Whether a step, by its type without
            scope, is left out. Defaults to :func:`is_annotation`.
        max_side (int, optional): Images whose longer side is above it are
            shrunk to it before the other steps. Defaults to None.

    Raises:
        UserValueError: If it loads no image.
    """

    def __init__(
        self,
        steps: List[ConfigDict],
        drop: Callable[[str], bool] = is_annotation,
        max_side: Optional[int] = None,
    ) -> None:
        kinds = [step['type'].rsplit('.', 1)[-1] for step in steps]
        loaders = [kind for kind in kinds if kind in _LOADERS]
        if not loaders:
            raise UserValueError(
                'test_dataloader.dataset.pipeline has no LoadImageFromFile, '
                f'only {kinds}.'
            )
        place = kinds.index(loaders[0]) + 1
        rest = [
            deepcopy(step)
            for step, kind in zip(steps[place:], kinds[place:])
            if not drop(kind)
        ]
        self._load = Compose(deepcopy(list(steps[:place])))
        self._rest = Compose(rest)
        self._max_side = max_side

    def __call__(
        self, image: Union[str, np.ndarray]
    ) -> Tuple[dict, np.ndarray]:
        """Prepare one image.

        Args:
            image (str or np.ndarray): Path, or BGR ``(H, W, 3)``.

        Returns:
            Tuple[dict, np.ndarray]: Packed data, and the image as loaded.
        """
        if isinstance(image, str):
            data = self._load(dict(img_path=image, img_id=0))
        else:
            shape = image.shape[:2]
            data = dict(img=image, img_shape=shape, ori_shape=shape)
            data.update(img_path='', img_id=0)
        pixels = data['img'].copy()
        longer = max(pixels.shape[:2])
        if self._max_side is not None and longer > self._max_side:
            # ori_shape stays: the prediction comes back at that size
            data['img'] = _shrunk(pixels, self._max_side / longer)
            data['img_shape'] = data['img'].shape[:2]
        return self._rest(data), pixels


def _shrunk(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = (max(round(n * factor), 1) for n in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def depth_pipeline(
    steps: Sequence[ConfigDict], max_side: Optional[int] = None
) -> InferencePipeline:
    """The pipeline of depth test data, for whole images without depth.

    Steps that load depth are left out, and so are the crops of evaluation
    protocols (:data:`CROPS`): the depth of the whole image is wanted, and
    the crop of one data set need not fit into an image of another. Where
    image and depth come out of one file, the image is read from an image
    file instead.

    Args:
        steps (Sequence[ConfigDict]): Pipeline of the test data.
        max_side (int, optional): See :class:`InferencePipeline`. Defaults to
            None.

    Returns:
        InferencePipeline: From a file or BGR array to packed data.
    """
    steps = list(steps)
    kinds = [step['type'].rsplit('.', 1)[-1] for step in steps]
    if not set(kinds) & set(_LOADERS):
        steps.insert(0, ConfigDict(type='LoadImageFromFile'))
    crops = [kind for kind in kinds if kind in CROPS]
    if crops:
        print_log(
            f'{", ".join(crops)} of the test pipeline left out: depth is '
            'predicted for whole images.',
            logger='current',
        )

    def drop(kind: str) -> bool:
        return kind.startswith('Load') or kind in CROPS

    return InferencePipeline(steps, drop, max_side)
