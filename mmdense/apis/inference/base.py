"""What inferencers share: reading, batching, and going on after a failure."""

from abc import ABCMeta, abstractmethod
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Hashable,
    Iterable,
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

from ...datasets.image_io import BadImageError, open_image
from ...utils.checkpoint import load_checkpoint_file, local_file
from ...utils.errors import UserValueError
from ...utils.model_settings import forget_initial_weights
from ..model_zoo import model_config
from ..running import read_config
from .pipeline import InferencePipeline

ImageInput = Union[str, Path, np.ndarray]
OnSkip = Callable[[str, str], None]


class _Item(NamedTuple):
    """An image that waits for its forward pass."""

    position: int
    name: str
    data: dict
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


def as_bgr(image: np.ndarray) -> np.ndarray:
    """8-bit BGR of a grey, BGR or BGRA array; the alpha is dropped.

    Args:
        image (np.ndarray): ``(H, W)`` or ``(H, W, 1, 3 or 4)``, uint8.

    Returns:
        np.ndarray: ``(H, W, 3)``, uint8, contiguous.

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


class ImageInferencer(metaclass=ABCMeta):
    """Predict for images one after the other, whatever some of them are.

    A subclass builds ``model`` and ``pipeline`` and writes
    :meth:`_predict_batch` and :meth:`_result`.

    Attributes:
        MAX_GROUPS (int): Kinds of images that may wait for others of their
            kind; with 1 the order of the inputs is kept.
        cfg (Config): The config.
        model (nn.Module): In evaluation mode.
        pipeline (InferencePipeline): From image to packed data.
    """

    MAX_GROUPS = 1
    cfg: Config
    model: Any
    pipeline: InferencePipeline

    def predict(
        self,
        inputs: Iterable[ImageInput],
        batch_size: int = 1,
        on_skip: Optional[OnSkip] = None,
    ) -> Iterator[Any]:
        """Predict image by image; nothing is kept.

        Args:
            inputs (Iterable[str, Path or np.ndarray]): Files, or arrays
                (H, W, 3) of uint8 in BGR order, as OpenCV reads them.
            batch_size (int): Images in a forward pass; fewer where the model
                needs one size and theirs differ. Defaults to 1.
            on_skip (Callable[[str, str], None], optional): Called with name
                and reason for inputs that cannot be read or that the model
                fails on. Defaults to None, a warning in the log.

        Yields:
            Inference or DepthInference: In the order of the inputs, or of
            the batches where :attr:`MAX_GROUPS` is above 1; ``position``
            tells which input it is.

        Raises:
            UserValueError: If ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise UserValueError(f'batch_size={batch_size} is below 1.')
        on_skip = on_skip or warn_of_skip
        groups: Dict[Hashable, List[_Item]] = {}
        for index, item in enumerate(inputs):
            array = isinstance(item, np.ndarray)
            name = f'array {index}' if array else str(item)
            try:
                data, pixels = self._prepare(item)
            except Exception as error:  # loaders raise whatever they meet
                reason = str(error).strip() or type(error).__name__
                on_skip(name, reason.replace(f'{name}: ', ''))
                continue
            group = self._group(data, pixels)
            if group not in groups and len(groups) == self.MAX_GROUPS:
                oldest = next(iter(groups))
                yield from self._forward(groups.pop(oldest), on_skip)
            batch = groups.setdefault(group, [])
            batch.append(_Item(index, name, data, pixels))
            if len(batch) == batch_size:
                yield from self._forward(groups.pop(group), on_skip)
        for batch in groups.values():
            yield from self._forward(batch, on_skip)

    def _collect(
        self,
        inputs: Union[ImageInput, Sequence[ImageInput]],
        batch_size: int,
        kept: Callable[[Any], Any],
        draw: Optional[Callable[[Any], np.ndarray]],
    ) -> Dict[str, list]:
        """All of :meth:`predict` at once, in the order of the inputs.

        Args:
            inputs (str, Path, np.ndarray or a list of these): Images.
            batch_size (int): Images in a forward pass.
            kept (Callable): What is kept of a result.
            draw (Callable, optional): Picture of a result; None draws none.

        Returns:
            Dict[str, list]: ``predictions`` and ``visualization``, None where
            something failed, and ``skipped``, tuples of name and reason.
        """
        if isinstance(inputs, (str, Path, np.ndarray)):
            inputs = [inputs]
        skipped: List[Tuple[str, str]] = []
        predictions: List[Any] = [None] * len(inputs)
        drawn: List[Any] = [None] * len(inputs) if draw else []
        for found in self.predict(
            inputs, batch_size, lambda *what: skipped.append(what)
        ):
            predictions[found.position] = kept(found)
            if draw is None:
                continue
            try:
                drawn[found.position] = draw(found)
            except Exception as error:
                skipped.append((found.name, reason_of(error)))
        return dict(
            predictions=predictions, visualization=drawn, skipped=skipped
        )

    def _group(self, data: dict, image: np.ndarray) -> Hashable:
        """What images of one forward pass have in common."""
        return tuple(data['inputs'].shape)

    def _prepare(self, item: ImageInput) -> Tuple[dict, np.ndarray]:
        """Packed data and RGB ``(H, W, 3)``, uint8."""
        if isinstance(item, np.ndarray):
            data, pixels = self.pipeline(as_bgr(item))
        else:
            open_image(str(item))  # finds what is cut or no image
            data, pixels = self.pipeline(str(item))
        if data is None:
            raise BadImageError(str(item), 'rejected by the pipeline')
        if pixels.dtype != np.uint8:
            pixels = np.clip(pixels, 0, 255).astype(np.uint8)
        return data, as_bgr(pixels)[..., ::-1]

    def _forward(self, batch: List[_Item], on_skip: OnSkip) -> Iterator[Any]:
        """Predict a batch; if it fails, its images one by one."""
        failure = ''
        try:
            found = self._predict_batch(
                [item.data for item in batch], [item.image for item in batch]
            )
        except Exception as error:  # out of memory, too small, ...
            failure = reason_of(error)
        if not failure:
            for item, prediction in zip(batch, found):
                yield self._result(
                    item.position, item.name, prediction, item.image
                )
        elif len(batch) == 1:
            on_skip(batch[0].name, failure)
        else:
            # behind the except: the error holds on to the memory
            for item in batch:
                yield from self._forward([item], on_skip)

    @abstractmethod
    def _predict_batch(
        self, data: List[dict], images: List[np.ndarray]
    ) -> List[Any]:
        """Predictions of one group, in its order, on the CPU."""

    @abstractmethod
    def _result(
        self, position: int, name: str, prediction: Any, image: np.ndarray
    ) -> Any:
        """What :meth:`predict` yields for an image."""


def read_settings(
    config: Union[str, Config], weights: str, trust: Optional[bool] = None
) -> Tuple[Config, Dict[str, Any]]:
    """Config and weights of a fine-tuned model.

    Weights are read as data only; those that the training started from are
    taken out of the config.

    Args:
        config (str or Config): Config of a fine-tuning: file, name in the
            model zoo, or the config itself.
        weights (str): Its checkpoint: file or http(s) address.
        trust (bool, optional): Allow checkpoints that hold more than
            tensors. Defaults to None: ``MMDENSE_TRUST_CHECKPOINT``.

    Returns:
        Tuple[Config, dict]: A copy of the config, and the checkpoint.

    Raises:
        UserValueError: If the config has no test data.
        CheckpointError: If the weights cannot be read.
    """
    cfg = read_model_config(config)
    if cfg.get('test_dataloader') is None:
        raise UserValueError(
            f'{cfg.filename or "The config"} has no test_dataloader, '
            'whose pipeline prepares the images.'
        )
    forget_initial_weights(cfg.model)
    checkpoint = load_checkpoint_file(local_file(weights), trust=trust)
    if not isinstance(checkpoint, dict):
        raise UserValueError(f'{weights} holds no weights.')
    return cfg, checkpoint


def read_model_config(config: Union[str, Config]) -> Config:
    """A copy of a config.

    Args:
        config (str or Config): File, name in the model zoo, or itself.

    Returns:
        Config: The copy.

    Raises:
        UserValueError: If there is no such file or name.
    """
    if isinstance(config, Config):
        return config.copy()
    if str(config).endswith('.py'):
        return read_config(str(config))
    try:
        return model_config(str(config))
    except ValueError as error:
        raise UserValueError(str(error)) from error


def reason_of(error: Exception) -> str:
    """First line of an error with its kind, for those who see no more.

    Args:
        error (Exception): Any.

    Returns:
        str: ``'RuntimeError: out of memory'``.
    """
    text = str(error).strip().split('\n')[0]
    kind = type(error).__name__
    return f'{kind}: {text}' if text else kind


def warn_of_skip(name: str, reason: str) -> None:
    """Log that an input is passed over.

    Args:
        name (str): The input.
        reason (str): Why.
    """
    print_log(f'{name} is skipped: {reason}', logger='current', level=30)
