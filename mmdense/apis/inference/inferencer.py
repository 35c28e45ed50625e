"""Segment or detect what is on images: for people, not for benchmarks."""

from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from ...datasets.image_io import BadImageError, open_image
from ...utils.checkpoint import load_checkpoint_file, local_file
from ...utils.errors import UserValueError
from ...utils.model_settings import forget_initial_weights
from ..model_zoo import model_config
from ..running import read_config
from .toolbox import scope_of, stock_inferencer, task_of

ImageInput = Union[str, Path, np.ndarray]
OnSkip = Callable[[str, str], None]


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


def choose_device(name: str = 'auto') -> str:
    """Device for a model.

    Args:
        name (str): ``'auto'`` (a GPU if there is one), ``'cpu'``,
            ``'cuda'``, ``'cuda:1'``. Defaults to ``'auto'``.

    Returns:
        str: Its name.

    Raises:
        UserValueError: If torch has no such device.
    """
    if name == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserValueError(
            f'Device {name!r} cannot be used: {str(error).splitlines()[0]}'
        ) from error
    return name


def _as_bgr(image: np.ndarray) -> np.ndarray:
    """8-bit BGR of a grey, BGR or BGRA array; the alpha is dropped.

    Raises:
        ValueError: If it is none of these.
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype != np.uint8 or image.ndim != 3 or not image.size:
        raise ValueError(f'array of {image.dtype} {image.shape}, not uint8')
    channels = image.shape[2]
    if channels not in (1, 3, 4):
        raise ValueError(f'array of {channels} channels, not 1, 3 or 4')
    image = np.repeat(image, 3, 2) if channels == 1 else image[..., :3]
    return np.ascontiguousarray(image)


class DenseInferencer:
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
        cfg = _read(config)
        self.task = task_of(cfg)
        if cfg.get('test_dataloader') is None:
            raise UserValueError(
                f'{cfg.filename or "The config"} has no test_dataloader, '
                'whose pipeline prepares the images.'
            )
        forget_initial_weights(cfg.model)
        checkpoint = load_checkpoint_file(local_file(weights), trust=trust)
        if not isinstance(checkpoint, dict):
            raise UserValueError(f'{weights} holds no weights.')
        self._stock = stock_inferencer(
            self.task, cfg, checkpoint, choose_device(device)
        )
        self.cfg = cfg
        self.model = self._stock.model
        self.dataset_meta = self.model.dataset_meta

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
        if isinstance(inputs, (str, Path, np.ndarray)):
            inputs = [inputs]
        skipped: List[Tuple[str, str]] = []
        predictions: List[Any] = [None] * len(inputs)
        drawn: List[Any] = [None] * len(inputs) if return_vis else []
        for found in self.predict(
            inputs, batch_size, lambda *what: skipped.append(what)
        ):
            predictions[found.position] = found.prediction
            if not return_vis:
                continue
            try:
                drawn[found.position] = self.draw(found, opacity, score_thr)
            except Exception as error:
                skipped.append((found.name, reason_of(error)))
        return dict(
            predictions=predictions, visualization=drawn, skipped=skipped
        )

    def predict(
        self,
        inputs: Sequence[ImageInput],
        batch_size: int = 1,
        on_skip: Optional[OnSkip] = None,
    ) -> Iterator[Inference]:
        """Predict image by image; nothing is kept.

        Args:
            inputs (Sequence[str, Path or np.ndarray]): See :meth:`__call__`.
            batch_size (int): Images in a forward pass; a segmentor takes
                fewer where their sizes differ. Defaults to 1.
            on_skip (Callable[[str, str], None], optional): Called with name
                and reason for inputs that cannot be read or that the model
                fails on. Defaults to None, a warning in the log.

        Yields:
            Inference: In the order of the inputs.

        Raises:
            UserValueError: If ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise UserValueError(f'batch_size={batch_size} is below 1.')
        on_skip = on_skip or _warn
        batch: List[tuple] = []
        for index, item in enumerate(inputs):
            array = isinstance(item, np.ndarray)
            name = f'array {index}' if array else str(item)
            try:
                data, pixels = self._prepare(item)
            except Exception as error:  # loaders raise whatever they meet
                reason = str(error).strip() or type(error).__name__
                on_skip(name, reason.replace(f'{name}: ', ''))
                continue
            shape = data['inputs'].shape
            # mmseg takes images of one size; mmdet pads
            other = self.task == 'segmentation' and any(
                b[2]['inputs'].shape != shape for b in batch
            )
            if other:
                yield from self._forward(batch, on_skip)
                batch = []
            batch.append((index, name, data, pixels))
            if len(batch) == batch_size:
                yield from self._forward(batch, on_skip)
                batch = []
        if batch:
            yield from self._forward(batch, on_skip)

    def _prepare(self, item: ImageInput) -> Tuple[dict, np.ndarray]:
        if isinstance(item, np.ndarray):
            data, pixels = self._stock.pipeline(_as_bgr(item))
        else:
            open_image(str(item))  # finds what is cut or no image
            data, pixels = self._stock.pipeline(str(item))
        if data is None:
            raise BadImageError(str(item), 'rejected by the pipeline')
        if pixels.dtype != np.uint8:
            pixels = np.clip(pixels, 0, 255).astype(np.uint8)
        return data, _as_bgr(pixels)[..., ::-1]

    def _forward(
        self, batch: List[tuple], on_skip: OnSkip
    ) -> Iterator[Inference]:
        """Predict a batch; if it fails, its images one by one."""
        failure = ''
        try:
            data = self._stock.collate_fn([item[2] for item in batch])
            with DefaultScope.overwrite_default_scope(scope_of(self.cfg)):
                samples = self._stock.forward(data)
            # one float a class and pixel of it is not needed
            samples = [_light(sample) for sample in samples]
        except Exception as error:  # out of memory, too small, ...
            failure = reason_of(error)
        if not failure:
            for (index, name, _, image), sample in zip(batch, samples):
                yield Inference(index, name, sample, image)
        elif len(batch) == 1:
            on_skip(batch[0][1], failure)
        else:
            # behind the except: the error holds on to the memory
            for item in batch:
                yield from self._forward([item], on_skip)

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


def _read(config: Union[str, Config]) -> Config:
    """A copy of a config, given by file, name or itself."""
    if isinstance(config, Config):
        return config.copy()
    if str(config).endswith('.py'):
        return read_config(str(config))
    try:
        return model_config(str(config))
    except ValueError as error:
        raise UserValueError(str(error)) from error


def reason_of(error: Exception) -> str:
    """First line of an error with its kind, for those who see no more."""
    text = str(error).strip().split('\n')[0]
    kind = type(error).__name__
    return f'{kind}: {text}' if text else kind


def _light(sample: Any) -> Any:
    sample = sample.to('cpu')
    sample.pop('seg_logits', None)
    return sample


def _warn(name: str, reason: str) -> None:
    print_log(f'{name} is skipped: {reason}', logger='current', level=30)
