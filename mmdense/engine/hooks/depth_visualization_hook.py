"""Draw depth maps during validation and testing."""

import os.path as osp
from typing import Any, Optional, Sequence

import numpy as np
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.visualization import Visualizer

from mmdense.registry import HOOKS

from ...utils.errors import UserValueError


# mmseg's SegVisualizationHook reads every image again from img_path, which a
# HDF5 or .mat file is not; counts batches; and names pictures by the base
# name, which NYU repeats in every scene.
@HOOKS.register_module()
class DepthVisualizationHook(Hook):
    """Give every n-th image with its depth to the visualizer.

    Needs ``visualizer=dict(type='mmdense.DepthVisualizer')``. The images are
    those that the model got, before normalisation and padding. The same ones
    are drawn at every validation, under the same name, so that TensorBoard
    shows how they change.

    Args:
        draw (bool): Whether to draw; ``tools/test.py --show-dir`` turns it
            on. Defaults to True.
        interval (int): Images from one picture to the next. Defaults to 50.
        most (int, optional): Pictures per validation at most, None for any
            number. Defaults to None.
        show (bool): Show windows instead of storing. Defaults to False.
        wait_time (float): Seconds that a window stays. Defaults to 0.

    Raises:
        UserValueError: If ``interval`` or ``most`` is below 1.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        draw: bool = True,
        interval: int = 50,
        most: Optional[int] = None,
        show: bool = False,
        wait_time: float = 0.0,
    ) -> None:
        for name, value in (('interval', interval), ('most', most)):
            if value is not None and value < 1:
                raise UserValueError(
                    f'DepthVisualizationHook: {name}={value}, give at '
                    'least 1; draw=False draws nothing.'
                )
        self.draw = draw
        self.interval = interval
        self.most = most
        self.show = show
        self.wait_time = wait_time
        self._seen = 0
        self._drawn = 0
        self._values = 'depth'

    def before_run(self, runner: Any) -> None:
        """Look whether the visualizer can draw, and what the head gives.

        Args:
            runner (Runner): Of mmengine.

        Raises:
            UserValueError: If the visualizer draws nothing.
        """
        kind = type(runner.visualizer)
        if self.draw and kind.add_datasample is Visualizer.add_datasample:
            raise UserValueError(
                f'DepthVisualizationHook: visualizer.type={kind.__name__!r} '
                "draws no depth; use dict(type='mmdense.DepthVisualizer', "
                'vis_backends=...).'
            )
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        output = getattr(getattr(model, 'decode_head', None), 'output', None)
        self._values = 'inverse' if output == 'relative' else 'depth'

    def before_val_epoch(self, runner: Any) -> None:  # noqa: ARG002
        """Start counting anew."""
        self._seen = self._drawn = 0

    def before_test_epoch(self, runner: Any) -> None:  # noqa: ARG002
        """Start counting anew."""
        self._seen = self._drawn = 0

    def after_val_iter(
        self,
        runner: Any,
        batch_idx: int,  # noqa: ARG002
        data_batch: Any = None,
        outputs: Optional[Sequence[Any]] = None,
    ) -> None:
        """Draw the chosen images of a batch."""
        self._take(runner, data_batch, outputs, 'val')

    def after_test_iter(
        self,
        runner: Any,
        batch_idx: int,  # noqa: ARG002
        data_batch: Any = None,
        outputs: Optional[Sequence[Any]] = None,
    ) -> None:
        """Draw the chosen images of a batch."""
        self._take(runner, data_batch, outputs, 'test')

    def _take(
        self,
        runner: Any,
        data_batch: Any,
        outputs: Optional[Sequence[Any]],
        mode: str,
    ) -> None:
        first = self._seen
        self._seen += len(outputs or ())
        if not self.draw or not outputs:
            return
        for i, sample in enumerate(outputs):
            # in the place of a file that cannot be used
            unusable = bool(sample.get('unusable'))
            if unusable or (first + i) % self.interval:
                continue
            if self.most is not None and self._drawn >= self.most:
                return
            self._drawn += 1
            path = sample.get('img_path', '') or ''
            stem = osp.splitext(osp.basename(path))[0]
            runner.visualizer.add_datasample(
                f'{mode}_{first + i:05d}_{stem}'.rstrip('_'),
                _image(data_batch, i),
                data_sample=sample,
                show=self.show,
                wait_time=self.wait_time,
                step=runner.iter,
                **self._kind(runner),
            )

    def _kind(self, runner: Any) -> dict:
        """What the prediction is, for visualizers that ask for it."""
        asks = getattr(runner.visualizer, 'values', None) == 'auto'
        return dict(values=self._values) if asks else {}


def _image(data_batch: Any, index: int) -> np.ndarray:
    """An image of a batch as the pipeline packed it, RGB."""
    inputs = data_batch['inputs']
    # test-time augmentation packs a batch per view
    if isinstance(inputs[0], (list, tuple)):
        inputs = inputs[0]
    bgr = inputs[index].detach().cpu().numpy()
    if bgr.dtype != np.uint8:
        bgr = np.clip(np.rint(bgr), 0, 255).astype(np.uint8)
    # (3, H, W) BGR, as every loader gives -> (H, W, 3) RGB
    return np.ascontiguousarray(bgr[::-1].transpose(1, 2, 0))
