"""Depth of images and films: for people, not for benchmarks."""

from contextlib import nullcontext
from typing import (
    Any,
    ContextManager,
    Dict,
    Hashable,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from ...utils.data_settings import inner_datasets
from ...utils.errors import UserValueError
from .base import (
    ImageInferencer,
    ImageInput,
    OnSkip,
    choose_device,
    read_model_config,
    read_settings,
)
from .depth_files import METRIC, RELATIVE, paint
from .pipeline import depth_pipeline
from .tiling import check_tiling, predict_tiled
from .toolbox import load_weights, scope_of, task_of

_AMP = {'fp16': torch.float16, 'bf16': torch.bfloat16}
# how much larger windows may appear to a metric model than the image
_ZOOM = 1.1
# of the network's input, above which somebody should know
_MANY_PIXELS = 4_000_000


class DepthInference(NamedTuple):
    """Depth of one image.

    Attributes:
        position (int): Among the inputs, from 0.
        name (str): Path of the image, or ``'array 3'``.
        depth (np.ndarray): ``(H, W)`` of the image, float32: metres, or
            inverse relative depth (larger is nearer, known up to a scale and
            a shift).
        image (np.ndarray): RGB ``(H, W, 3)``, uint8.
        kind (str): ``'metric'`` or ``'relative'``.
        unit (str or None): ``'metre'``, None for relative depth.
    """

    position: int
    name: str
    depth: np.ndarray
    image: np.ndarray
    kind: str
    unit: Optional[str]


def depth_kind(model: Any) -> str:
    """What a depth estimator predicts.

    Args:
        model (DepthEstimator): The model.

    Returns:
        str: ``'relative'`` where the head's output is, else ``'metric'``.
    """
    relative = getattr(model.decode_head, 'is_relative', False)
    return RELATIVE if relative else METRIC


class DepthInferencer(ImageInferencer):
    """Depth of images, with the model of a config.

    Each image takes the way of the config's test data, without what only
    evaluation needs (see :func:`depth_pipeline`), and its depth comes back
    at its own size, with the interpolation of ``model.test_cfg``. Images are
    resized in 8 bits or, where the config's :class:`mmdense.DPTResize` has
    ``to_float32=True``, without rounding; files and arrays take the same way.

    Large images can be cut into overlapping windows whose depth is blended.
    Relative depth of a window is brought to that of the whole image by a
    scale and a shift. Metric depth is not: where the pipeline resizes, a
    window appears larger to the model than the image would, and objects
    nearer; a message says so.

    Examples:
        >>> model = DepthInferencer('config.py', 'weights.pth')
        >>> found = model('photo.jpg')['predictions'][0]
        >>> found.depth, found.unit  # (H, W), 'metre'
        >>> model.draw(found)  # RGB (H, W, 3)

    Args:
        config (str or Config): Config of a depth model: file, name in the
            model zoo, or the config itself.
        weights (str): Its checkpoint: file or http(s) address.
        device (str): See :func:`choose_device`. Defaults to ``'auto'``.
        trust (bool, optional): Allow checkpoints that hold more than
            tensors. Defaults to None: ``MMDENSE_TRUST_CHECKPOINT``.
        flip (bool, optional): Average with the prediction for the mirrored
            image. Defaults to None, what ``model.test_cfg`` says.
        amp (str, optional): ``'fp16'`` (GPU only) or ``'bf16'`` computes in
            half precision. Defaults to None.
        tile (int or Sequence[int], optional): Side, or height and width, of
            the windows into which larger images are cut, in pixels of the
            image. Defaults to None, no windows.
        overlap (float): Least share of a window that its neighbour has too,
            above 0 and up to 0.5. Defaults to 0.25.
        max_side (int, optional): The model sees images and windows whose
            longer side is above it shrunk to it; depth comes back at full
            size all the same. For pipelines that resize nothing. Defaults to
            None.

    Attributes:
        cfg (Config): The config.
        model (nn.Module): In evaluation mode.
        kind (str): ``'metric'`` or ``'relative'``.
        unit (str or None): ``'metre'``, None for relative depth.
        settings (dict): What decides on the values: ``weights``, ``flip``,
            ``amp``, ``tile``, ``overlap`` and ``max_side``.

    Raises:
        UserValueError: If the model does not estimate depth, the weights are
            not its own, or an argument cannot be used.
        CheckpointError: If the weights cannot be read.
    """

    # images of several sizes wait for others of theirs
    MAX_GROUPS = 4

    def __init__(
        self,
        config: Union[str, Config],
        weights: str,
        device: str = 'auto',
        trust: Optional[bool] = None,
        flip: Optional[bool] = None,
        amp: Optional[str] = None,
        tile: Union[int, Sequence[int], None] = None,
        overlap: float = 0.25,
        max_side: Optional[int] = None,
    ) -> None:
        cfg = read_model_config(config)
        if task_of(cfg) != 'depth':
            raise UserValueError(
                f'model.type={cfg.model.type!r} estimates no depth: '
                'tools/infer.py and mmdense.apis.DenseInferencer draw '
                'classes and objects.'
            )
        self._device = choose_device(device)
        self._amp = _dtype(amp, self._device)
        self._tile = None if tile is None else check_tiling(tile, overlap)
        self._overlap = overlap
        if max_side is not None and max_side < 16:
            raise UserValueError(f'max_side={max_side}: give 16 or more.')
        self.cfg, checkpoint = read_settings(cfg, weights, trust)
        with DefaultScope.overwrite_default_scope(scope_of(cfg)):
            data = inner_datasets(self.cfg.test_dataloader.dataset)[0]
            self.pipeline = depth_pipeline(data['pipeline'], max_side)
            model = MODELS.build(self.cfg.model)
        load_weights(model, checkpoint)
        model = revert_sync_batchnorm(model)
        if flip is not None:
            model.test_cfg.flip = flip
        self.model = model.to(self._device).eval()
        self.kind = depth_kind(self.model)
        self.unit = None if self.kind == RELATIVE else 'metre'
        self.settings: Dict[str, Any] = dict(
            weights=str(weights),
            flip=bool(model.test_cfg.get('flip', False)),
            amp=amp,
            tile=None if self._tile is None else list(self._tile),
            overlap=None if self._tile is None else overlap,
            max_side=max_side,
        )
        self._batch_size = 1
        self._told: Set[str] = set()

    def __call__(
        self,
        inputs: Union[ImageInput, Sequence[ImageInput]],
        batch_size: int = 1,
        return_vis: bool = False,
    ) -> Dict[str, list]:
        """Depth of a few images; :meth:`predict` does for many.

        Args:
            inputs (str, Path, np.ndarray or a list of these): Files, or
                arrays (H, W, 3) of uint8 in BGR order, as OpenCV reads them.
            batch_size (int): Images, or windows of one, in a forward pass.
                Defaults to 1.
            return_vis (bool): Colour the depth too. Defaults to False.

        Returns:
            Dict[str, list]: ``predictions``, a :class:`DepthInference` for
            each input, None for those that failed; ``visualization``, RGB
            arrays in the same order, empty without ``return_vis``, None
            where drawing failed; ``skipped``, tuples of name and reason.
        """
        return self._collect(
            inputs,
            batch_size,
            kept=lambda found: found,
            draw=self.draw if return_vis else None,
        )

    def predict(
        self,
        inputs: Iterable[ImageInput],
        batch_size: int = 1,
        on_skip: Optional[OnSkip] = None,
    ) -> Iterator[DepthInference]:
        """Depth image by image; nothing is kept.

        Args:
            inputs (Iterable[str, Path or np.ndarray]): See :meth:`__call__`.
            batch_size (int): Images of one size, or windows of an image, in
                a forward pass. Defaults to 1.
            on_skip (Callable[[str, str], None], optional): Called with name
                and reason for inputs that cannot be read or that the model
                fails on. Defaults to None, a warning in the log.

        Returns:
            Iterator[DepthInference]: Batch by batch; images of one size keep
            their order, ``position`` tells which input it is.

        Raises:
            UserValueError: If ``batch_size`` is below 1.
        """
        self._batch_size = batch_size
        return super().predict(inputs, batch_size, on_skip)

    def draw(
        self,
        found: DepthInference,
        limits: Optional[Tuple[float, float]] = None,
        panel: bool = False,
    ) -> np.ndarray:
        """Colour a prediction.

        Args:
            found (DepthInference): From :meth:`predict`.
            limits (Tuple[float, float], optional): Values at the ends of the
                colours. Defaults to None, percentiles of the image.
            panel (bool): The image beside it, and a legend. Defaults to
                False.

        Returns:
            np.ndarray: RGB, uint8.
        """
        return paint(found.depth, found.kind, limits, found.image, panel)

    def _tiled(self, image: np.ndarray) -> bool:
        height, width = image.shape[:2]
        tile = self._tile
        return tile is not None and (height > tile[0] or width > tile[1])

    def _group(self, data: dict, image: np.ndarray) -> Hashable:
        tiled, shape = self._tiled(image), tuple(data['inputs'].shape)
        if shape[1] * shape[2] > _MANY_PIXELS and not tiled:
            self._tell_once(
                'pixels',
                f'The test pipeline hands {shape[2]}x{shape[1]} pixels to '
                'the model: that takes memory, and few models were trained '
                'so. max_side (--max-side) or tile (--tile) bound it.',
            )
        return (tiled, *shape)

    def _tell_once(self, topic: str, text: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            print_log(text, logger='current', level=30)

    def _predict_batch(
        self, data: List[dict], images: List[np.ndarray]
    ) -> List[np.ndarray]:
        if not self._tiled(images[0]):
            return self._depth(data)
        return [self._in_tiles(*item) for item in zip(data, images)]

    def _result(
        self, position: int, name: str, prediction: Any, image: np.ndarray
    ) -> DepthInference:
        return DepthInference(
            position, name, prediction, image, self.kind, self.unit
        )

    def _depth(self, data: List[dict]) -> List[np.ndarray]:
        """Depth of the original size of each image of a batch."""
        half: ContextManager[Any] = nullcontext()
        if self._amp is not None:
            half = torch.autocast(self._device.split(':')[0], self._amp)
        scope = DefaultScope.overwrite_default_scope(scope_of(self.cfg))
        with scope, torch.no_grad(), half:
            samples = self.model.test_step(pseudo_collate(data))
        found = [s.pred_depth_map.data[0].float().cpu() for s in samples]
        bad = sum(int((~torch.isfinite(depth)).sum()) for depth in found)
        if bad:
            hint = ' Try without amp.' if self._amp is not None else ''
            raise FloatingPointError(
                f'{bad} pixels of the predicted depth are not finite.{hint}'
            )
        return [depth.numpy() for depth in found]

    def _in_tiles(self, data: dict, image: np.ndarray) -> np.ndarray:
        assert self._tile is not None
        whole = None
        if self.kind == RELATIVE:
            whole = self._depth([data])[0]

        def predict(parts: List[np.ndarray]) -> List[np.ndarray]:
            packed = [self.pipeline(p[..., ::-1].copy())[0] for p in parts]
            if self.kind == METRIC:
                self._compare_zoom(data, image, packed[0], parts[0])
            return self._depth(packed)

        depth, counts = predict_tiled(
            image,
            predict,
            self._tile,
            self._overlap,
            self._batch_size,
            whole,
        )
        if counts['replaced']:
            print_log(
                f'{counts["replaced"]} of {counts["windows"]} windows run '
                'against the whole image and were replaced by it.',
                logger='current',
                level=30,
            )
        return depth

    def _compare_zoom(
        self, data: dict, image: np.ndarray, part_data: dict, part: np.ndarray
    ) -> None:
        """Tell once if windows look nearer than the image does."""
        zoom = part_data['inputs'].shape[1] / part.shape[0]
        zoom /= data['inputs'].shape[1] / image.shape[0]
        if zoom > _ZOOM:
            self._tell_once(
                'zoom',
                f'Windows of {part.shape[1]}x{part.shape[0]} are shown '
                f'{zoom:.1f} times larger to the model than the whole image '
                'would be; metric depth may come out too small by up to that '
                'factor.',
            )


def _dtype(amp: Optional[str], device: str) -> Optional[torch.dtype]:
    if not amp:
        return None
    if amp not in _AMP:
        raise UserValueError(f'amp={amp!r}: choose from {", ".join(_AMP)}.')
    if amp == 'fp16' and device.startswith('cpu'):
        raise UserValueError('amp=fp16 needs a GPU; a CPU takes bf16.')
    return _AMP[amp]
