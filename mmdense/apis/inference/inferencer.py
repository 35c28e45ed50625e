"""Segment or detect what is on images: for people, not for benchmarks."""

from typing import (
    Any,
    Dict,
    Hashable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Union,
)

import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope

from ...utils.errors import UserValueError
from .base import (
    ImageInferencer,
    ImageInput,
    choose_device,
    read_model_config,
    read_settings,
)
from .toolbox import scope_of, stock_inferencer, task_of


class Inference(NamedTuple):
    """What a model says about one image.

    Attributes:
        position (int): Among the inputs, from 0.
        name (str): Path of the image, or ``'array 3'``.
        prediction (SegDataSample or DetDataSample): On the CPU, at the size
            of the image.
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.
    """

    position: int
    name: str
    prediction: Any
    image: np.ndarray


class DenseInferencer(ImageInferencer):
    """Segmentation or detection of images, with the model of a config.

    The inferencers and visualisers of mmseg and mmdet do the work; weights
    are read as data only, and those that the training started from need not
    be there.

    Examples:
        >>> model = DenseInferencer('config.py', 'epoch_12.pth')
        >>> result = model('photo.jpg', return_vis=True)
        >>> result['predictions'][0].pred_sem_seg.data  # (1, H, W)
        >>> result['visualization'][0]  # RGB (H, W, 3)

    Args:
        config (str or Config): Config of a fine-tuning: file, name in the
            model zoo, or the config itself.
        weights (str): Its checkpoint: file or http(s) address.
        device (str): See :func:`choose_device`. Defaults to ``'auto'``.
        trust (bool, optional): Allow checkpoints that hold more than
            tensors. Defaults to None: ``MMDENSE_TRUST_CHECKPOINT``.

    Attributes:
        cfg (Config): The config.
        task (str): ``'segmentation'`` or ``'detection'``.
        model (nn.Module): In evaluation mode.
        dataset_meta (dict): ``classes`` and ``palette`` (RGB).

    Raises:
        UserValueError: If the model does neither task, or the weights are
            not its own.
        CheckpointError: If the weights cannot be read.
    """

    def __init__(
        self,
        config: Union[str, Config],
        weights: str,
        device: str = 'auto',
        trust: Optional[bool] = None,
    ) -> None:
        cfg = read_model_config(config)
        self.task = task_of(cfg)
        if self.task == 'depth':
            raise UserValueError(
                f'model.type={cfg.model.type!r} estimates depth: '
                'tools/infer_depth.py and mmdense.apis.DepthInferencer do '
                'that.'
            )
        cfg, checkpoint = read_settings(cfg, weights, trust)
        self._stock = stock_inferencer(
            self.task, cfg, checkpoint, choose_device(device)
        )
        self.cfg = cfg
        self.model = self._stock.model
        self.pipeline = self._stock.pipeline
        self.dataset_meta: Dict[str, Any] = self.model.dataset_meta

    def __call__(
        self,
        inputs: Union[ImageInput, Sequence[ImageInput]],
        batch_size: int = 1,
        return_vis: bool = False,
        opacity: float = 0.5,
        score_thr: float = 0.3,
    ) -> Dict[str, list]:
        """Predict for a few images; :meth:`predict` does for many.

        Args:
            inputs (str, Path, np.ndarray or a list of these): Files, or
                arrays (H, W, 3) of uint8 in BGR order, as OpenCV reads them.
            batch_size (int): Images in a forward pass. Defaults to 1.
            return_vis (bool): Draw the predictions too. Defaults to False.
            opacity (float): See :meth:`draw`. Defaults to 0.5.
            score_thr (float): See :meth:`draw`. Defaults to 0.3.

        Returns:
            Dict[str, list]: ``predictions``, one data sample for each input,
            None for those that failed; ``visualization``, RGB arrays in the
            same order, empty without ``return_vis``, None where drawing
            failed; ``skipped``, tuples of name and reason for both.
        """

        def draw(found: Inference) -> np.ndarray:
            return self.draw(found, opacity, score_thr)

        return self._collect(
            inputs,
            batch_size,
            kept=lambda found: found.prediction,
            draw=draw if return_vis else None,
        )

    def _group(self, data: dict, image: np.ndarray) -> Hashable:
        # mmseg takes images of one size; mmdet pads
        if self.task == 'detection':
            return ()
        return super()._group(data, image)

    def _predict_batch(
        self, data: List[dict], images: List[np.ndarray]
    ) -> List[Any]:
        collated = self._stock.collate_fn(data)
        with DefaultScope.overwrite_default_scope(scope_of(self.cfg)):
            samples = self._stock.forward(collated)
        # one float a class and pixel of it is not needed
        return [_light(sample) for sample in samples]

    def _result(
        self, position: int, name: str, prediction: Any, image: np.ndarray
    ) -> Inference:
        return Inference(position, name, prediction, image)

    def draw(
        self, found: Inference, opacity: float = 0.5, score_thr: float = 0.3
    ) -> np.ndarray:
        """Draw a prediction on its image.

        Args:
            found (Inference): From :meth:`predict`.
            opacity (float): Of labels and masks, 0 to 1. Defaults to 0.5.
            score_thr (float): Objects below are left out. Defaults to 0.3.

        Returns:
            np.ndarray: RGB, uint8, of the image's size.
        """
        self._stock.visualizer.alpha = opacity
        if self.task == 'segmentation':
            settings: Dict[str, Any] = {'opacity': opacity}
        else:
            settings = {'pred_score_thr': score_thr}
        image, sample = found.image.copy(), found.prediction
        return self._stock.visualize(
            [image], [sample], return_vis=True, **settings
        )[0]


def _light(sample: Any) -> Any:
    sample = sample.to('cpu')
    sample.pop('seg_logits', None)
    return sample
