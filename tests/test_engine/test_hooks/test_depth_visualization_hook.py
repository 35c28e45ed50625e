import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, PixelData
from mmengine.visualization import Visualizer

from mmdense.engine.hooks import DepthVisualizationHook
from mmdense.utils.errors import UserValueError
from mmdense.visualization import DepthVisualizer

SIZE = (40, 50)


class Recorder(DepthVisualizer):
    """Keeps what it is given."""

    def __init__(self, name='recorder', **kwargs):
        super().__init__(name, **kwargs)
        self.given = []

    def add_datasample(self, name, image, **kwargs):
        self.given.append((name, image, kwargs))


def sample(**meta):
    out = BaseDataElement(metainfo=meta)
    out.pred_depth_map = PixelData(data=torch.ones(1, *SIZE))
    return out


@pytest.fixture
def visualizer():
    return Recorder()


class FakeRunner:
    iter = 11

    def __init__(self, visualizer, output='sigmoid_range'):
        self.visualizer = visualizer
        self.model = torch.nn.Module()
        self.model.decode_head = torch.nn.Module()
        self.model.decode_head.output = output


def run(hook, runner, batches=3, size=4, pack=list):
    hook.before_run(runner)
    for _ in range(2):
        hook.before_val_epoch(runner)
        for b in range(batches):
            outputs = [sample(img_path=f'{b}/{i}.jpg') for i in range(size)]
            inputs = [
                torch.full((3, *SIZE), 10 * b + i, dtype=torch.uint8)
                for i in range(size)
            ]
            batch = dict(inputs=pack(inputs))
            hook.after_val_iter(runner, b, batch, outputs)


def test_hook__draws_every_nth_image_under_lasting_names(visualizer):
    run(DepthVisualizationHook(interval=5), FakeRunner(visualizer))
    names = [name for name, _, _ in visualizer.given]
    # images 0, 5 and 10 of 12, twice
    assert names == ['val_00000_0', 'val_00005_1', 'val_00010_2'] * 2
    assert {kwargs['step'] for *_, kwargs in visualizer.given} == {11}


@pytest.mark.parametrize('pack', [list, torch.stack, lambda x: [x, x]])
def test_hook__draws_the_image_that_the_model_got(visualizer, pack):
    hook = DepthVisualizationHook(interval=5, most=2)
    run(hook, FakeRunner(visualizer), pack=pack)
    images = [image for _, image, _ in visualizer.given]
    assert [np.unique(i).tolist() for i in images] == [[0], [11]] * 2
    assert images[0].shape == (*SIZE, 3)


def test_hook__channels_and_kind_of_prediction(visualizer):
    hook = DepthVisualizationHook(interval=1)
    runner = FakeRunner(visualizer, 'relative')
    hook.before_run(runner)
    blue = torch.zeros(3, 2, 2, dtype=torch.uint8)
    blue[0] = 255
    hook.after_test_iter(runner, 0, dict(inputs=[blue]), [sample()])
    name, image, kwargs = visualizer.given[0]
    assert name == 'test_00000'
    assert image[0, 0].tolist() == [0, 0, 255]
    assert kwargs['values'] == 'inverse'
    # what the config says counts
    visualizer.values = 'depth'
    hook.after_test_iter(runner, 0, dict(inputs=[blue]), [sample()])
    assert 'values' not in visualizer.given[1][2]


def test_hook__switched_off_or_without_visualizer(visualizer):
    runner = FakeRunner(visualizer)
    run(DepthVisualizationHook(draw=False), runner)
    assert visualizer.given == []
    runner = FakeRunner(Visualizer())
    with pytest.raises(UserValueError, match=r'mmdense\.DepthVisualizer'):
        DepthVisualizationHook().before_run(runner)
    DepthVisualizationHook(draw=False).before_run(runner)
    with pytest.raises(UserValueError, match='interval=0'):
        DepthVisualizationHook(interval=0)
