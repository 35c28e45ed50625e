import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, PixelData
from mmengine.visualization.vis_backend import BaseVisBackend
from PIL import Image

from mmdense.registry import VISBACKENDS, VISUALIZERS
from mmdense.utils.errors import UserValueError
from mmdense.visualization import DepthVisualizer, depth_panel

SIZE = (40, 50)


@VISBACKENDS.register_module(force=True)
class RecordingBackend(BaseVisBackend):
    """Keeps what it is given."""

    def __init__(self, save_dir=None):
        self.images = []

    def _init_env(self):
        pass

    @property
    def experiment(self):
        return self

    def add_image(self, name, image, step=0, **kwargs):
        self.images.append((name, image, step))


def sample(pred=True, gt=True, **meta):
    out = BaseDataElement(metainfo=meta)
    if gt:
        out.gt_depth_map = PixelData(data=torch.rand(1, *SIZE) + 1)
    if pred:
        out.pred_depth_map = PixelData(data=torch.rand(1, *SIZE) + 1)
    return out


@pytest.fixture
def visualizer():
    return DepthVisualizer(
        vis_backends=[dict(type='mmdense.RecordingBackend')], save_dir='x'
    )


def image():
    return np.random.RandomState(0).randint(0, 256, (*SIZE, 3), np.uint8)


def recorded(visualizer):
    return visualizer.get_backend('RecordingBackend').images


def test_visualizer__gives_the_panel_to_the_backends(visualizer):
    data = sample(img_path='/data/nyu/a/b.jpg')
    visualizer.add_datasample('x', image(), data, step=7)
    ((name, picture, step),) = recorded(visualizer)
    assert (name, step) == ('x', 7)
    expected = depth_panel(
        image(),
        data.pred_depth_map.data,
        data.gt_depth_map.data,
        caption='a/b.jpg',
    )
    np.testing.assert_array_equal(picture, expected)
    np.testing.assert_array_equal(visualizer.get_image(), expected)


def test_visualizer__parts_that_are_not_wanted(visualizer):
    data = sample()
    visualizer.add_datasample('a', image(), data)
    visualizer.add_datasample('b', image(), data, draw_gt=False)
    visualizer.add_datasample('c', image(), data, draw_pred=False)
    widths = [p.shape[1] for _, p, _ in recorded(visualizer)]
    assert widths[0] > 1.8 * widths[1]
    assert widths[0] > 1.8 * widths[2]
    with pytest.raises(UserValueError, match='neither pred_depth_map nor'):
        visualizer.add_datasample('d', image(), sample(False, False))


def test_visualizer__truth_of_a_window(visualizer):
    data = sample(pred=False, kb_crop=(5, 35, 10, 50))
    truth = data.gt_depth_map.data[:, 5:35, 10:50]
    data.set_field(
        PixelData(data=truth.clone()), 'pred_depth_map', dtype=PixelData
    )
    picture = visualizer.draw(image()[5:35, 10:50], data)
    expected = depth_panel(image()[5:35, 10:50], truth, truth)
    np.testing.assert_array_equal(picture, expected)
    # a prediction of the whole image is not cut
    whole = sample(pred=False, kb_crop=(5, 35, 10, 50))
    whole.pred_depth_map = PixelData(data=torch.ones(1, 80, 100))
    truth = whole.gt_depth_map.data
    np.testing.assert_array_equal(
        visualizer.draw(image(), whole),
        depth_panel(image(), torch.ones(*SIZE), truth),
    )


def test_visualizer__unknown_values():
    with pytest.raises(UserValueError, match="values='disparity'"):
        DepthVisualizer(values='disparity')


def test_visualizer__is_registered_and_writes_png(tmp_path):
    built = VISUALIZERS.build(
        dict(
            type='mmdense.DepthVisualizer',
            name='depth-test',
            vis_backends=[dict(type='LocalVisBackend')],
            save_dir=str(tmp_path),
        )
    )
    built.add_config(Config(dict(a=1)))
    built.add_datasample('val_00000_a', image(), sample(), step=3)
    (path,) = tmp_path.rglob('*.png')
    assert path.name == 'val_00000_a_3.png'
    np.testing.assert_array_equal(
        np.asarray(Image.open(path)), built.get_image()
    )
    built.add_datasample(
        'a', image(), sample(), out_file=str(tmp_path / 'out.png')
    )
    assert (tmp_path / 'out.png').is_file()


def test_visualizer__tensorboard(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    built = DepthVisualizer(
        vis_backends=[dict(type='TensorboardVisBackend')],
        save_dir=str(tmp_path),
    )
    for step in (1, 2):
        built.add_datasample('val_00000_a', image(), sample(), step=step)
    built.close()
    (path,) = tmp_path.rglob('events.out.*')
    events = EventAccumulator(str(path))
    events.Reload()
    assert events.Tags()['images'] == ['val_00000_a']
    assert [e.step for e in events.Images('val_00000_a')] == [1, 2]
