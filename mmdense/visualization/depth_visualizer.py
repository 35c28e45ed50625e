"""Depth for mmengine's visualisation backends."""

from typing import Any, Dict, Optional

import numpy as np
from mmengine.dist import master_only
from mmengine.visualization import Visualizer

from mmdense.registry import VISUALIZERS

from ..utils.errors import UserValueError
from .depth import VALUES, as_map
from .depth_panel import depth_panel
from .figures import image_png

_CHOICES = (*VALUES, 'auto')


# mmseg's SegLocalVisualizer draws depth with draw_featmap: truth and
# prediction are each stretched to their own range, so that equal colours are
# other depths, "no measurement" looks like the nearest point, and there is no
# legend.
@VISUALIZERS.register_module()
class DepthVisualizer(Visualizer):
    """Draws image, truth, prediction and error with legends.

    Args:
        name (str): Name of the instance. Defaults to 'visualizer'.
        values (str): What predictions hold: 'depth' in metres, 'inverse'
            relative depth, or 'auto': what ``DepthVisualizationHook`` finds
            in the head of the model, 'depth' without it. Defaults to
            'auto'.
        min_depth (float, optional): Lower end of the colours in metres; None
            to suit each image. Relative predictions have colours of their
            own all the same. Defaults to None.
        max_depth (float, optional): Upper end. Defaults to None.
        colormap (str): matplotlib colour map. Defaults to 'turbo'.
        near (str): 'warm' or 'cold', colours of near things. Defaults to
            'warm'.
        error (str, optional): 'signed', 'absolute' or None. Defaults to
            'signed'.
        height (int, optional): Height of the maps in the picture; None for
            theirs. Defaults to None.
        **kwargs (Any): ``vis_backends``, ``save_dir``; see mmengine.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        values: str = 'auto',
        min_depth: Optional[float] = None,
        max_depth: Optional[float] = None,
        colormap: str = 'turbo',
        near: str = 'warm',
        error: Optional[str] = 'signed',
        height: Optional[int] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        if values not in _CHOICES:
            raise UserValueError(
                f'visualizer.values={values!r}, choose from {_CHOICES}.'
            )
        self.values = values
        self._look: Dict[str, Any] = dict(
            low=min_depth,
            high=max_depth,
            name=colormap,
            near=near,
            error=error,
            height=height,
        )

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: Any = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: Optional[str] = None,
        step: int = 0,
        values: Optional[str] = None,
    ) -> None:
        """Draw one image and give the picture to all backends.

        Args:
            name (str): Name of the picture.
            image (np.ndarray): RGB ``(h, w, 3)``, uint8.
            data_sample (SegDataSample): With ``gt_depth_map`` or
                ``pred_depth_map``, ``(1, H, W)``, or both.
            draw_gt (bool): Draw the truth. Defaults to True.
            draw_pred (bool): Draw the prediction. Defaults to True.
            show (bool): Show a window instead of storing. Defaults to
                False.
            wait_time (float): Seconds that the window stays. Defaults to 0.
            out_file (str, optional): Write a PNG here instead of giving it
                to the backends. Defaults to None.
            step (int): Step of the picture in the backends. Defaults to 0.
            values (str, optional): What the prediction holds, if this class
                was built with 'auto'. Defaults to None.

        Raises:
            UserValueError: If the sample has no depth.
        """
        picture = self.draw(image, data_sample, draw_gt, draw_pred, values)
        if show:
            self.show(picture, win_name=name, wait_time=wait_time)
        elif out_file is not None:
            with open(out_file, 'wb') as file:
                file.write(image_png(picture))
        else:
            self.set_image(picture)
            self.add_image(name, picture, step)

    def draw(
        self,
        image: np.ndarray,
        data_sample: Any,
        draw_gt: bool = True,
        draw_pred: bool = True,
        values: Optional[str] = None,
    ) -> np.ndarray:
        """The picture of one image.

        Args:
            image (np.ndarray): RGB ``(h, w, 3)``, uint8.
            data_sample (SegDataSample): See :meth:`add_datasample`.
            draw_gt (bool): Draw the truth. Defaults to True.
            draw_pred (bool): Draw the prediction. Defaults to True.
            values (str, optional): See :meth:`add_datasample`. Defaults to
                None.

        Returns:
            np.ndarray: RGB image, uint8.

        Raises:
            UserValueError: If the sample has no depth.
        """
        pred = gt = None
        if draw_pred and 'pred_depth_map' in data_sample:
            pred = as_map(data_sample.pred_depth_map.data, 'pred_depth_map')
        if draw_gt and 'gt_depth_map' in data_sample:
            gt = as_map(data_sample.gt_depth_map.data, 'gt_depth_map')
        path = data_sample.get('img_path', '') or ''
        if pred is None and gt is None:
            raise UserValueError(
                f'{path or "a sample"} has neither pred_depth_map nor '
                'gt_depth_map: mmdense.DepthVisualizer draws depth alone.'
            )
        if self.values != 'auto':
            values = self.values
        # the truth of the full image, the prediction of a part of it
        window = data_sample.get('kb_crop', None)
        if pred is not None and gt is not None and pred.shape != gt.shape:
            gt = _window(gt, window, pred.shape)
        caption = '/'.join(path.split('/')[-2:])
        return depth_panel(
            image, pred, gt, values or 'depth', caption=caption, **self._look
        )


def _window(gt: np.ndarray, window: Any, size: tuple) -> np.ndarray:
    """Rows and columns of a truth that a prediction covers, if known."""
    if window is None:
        return gt
    top, bottom, left, right = (int(v) for v in window)
    part = gt[top:bottom, left:right]
    return part if part.shape == size else gt
