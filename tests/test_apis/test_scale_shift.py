"""Fit of relative to metric depth, against loops of numpy."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData

from mmdense.apis.scale_shift import (
    depth_range,
    fit_scale_shift,
    relative_model,
    training_images,
)
from mmdense.datasets.depth.errors import DepthFileError
from mmdense.evaluation.functional.depth import KB_SIZE, robust_alignment
from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT
from mmdense.utils.errors import UserValueError

if not toolbox_installed('mmseg'):
    pytest.skip('mmseg is not installed', allow_module_level=True)

CONFIGS = ROOT / 'configs' / 'dpt' / 'benchmarks'
RELATIVE = next(CONFIGS.glob('dpt-relative_vit-demo-*.py'))
NYU = next(CONFIGS.glob('dpt_vit-base-p16_dpt-mix10-*_nyu-*.py'))
MIX = next(CONFIGS.parent.glob('dpt_vit-base-*_mix3-*.py'))


class _Data(list):
    """Pairs of prediction and truth, both numpy; or an error."""

    def get_data_info(self, index):
        return {'img_path': f'{index}.jpg'}

    def prepare_data(self, index):
        if isinstance(self[index], Exception):
            raise self[index]
        return self[index]


class _Model:
    @staticmethod
    def test_step(batch):
        from mmseg.structures import SegDataSample

        sample = SegDataSample()
        for name, (value,) in zip(('pred', 'gt'), batch):
            data = torch.from_numpy(value)[None].float()
            sample.set_data({f'{name}_depth_map': PixelData(data=data)})
        return [sample]


def _pair(seed, scale=0.3, shift=0.1, size=(12, 16)):
    x = np.random.RandomState(seed).uniform(0.5, 3, size)
    return x, 1 / (scale * x + shift)


def test_robust_alignment__is_median_and_mean_deviation():
    state = np.random.RandomState(0)
    for count in (1, 2, 7, 30):
        x, y = state.rand(2, count)
        fit = robust_alignment(torch.tensor(x), torch.tensor(y))
        spread = [np.abs(v - np.median(v)).mean() for v in (x, y)]
        scale = spread[1] / spread[0] if spread[0] else 0
        shift = np.median(y) - scale * np.median(x)
        assert fit == pytest.approx((scale, shift), rel=1e-12)
    fit = robust_alignment(torch.full((9,), 0.1), torch.tensor(y[:9]))
    assert fit == pytest.approx((0, np.median(y[:9])))


@pytest.mark.parametrize('method', ['robust', 'least_squares'])
def test_fit__exact_relation_is_found(method):
    data = _Data(_pair(seed) for seed in range(3))
    found = fit_scale_shift(_Model(), data, method)
    assert (found.scale, found.shift) == pytest.approx((0.3, 0.1), rel=1e-5)
    assert found.metrics['abs_rel'] < 1e-6 and found.metrics['d1'] == 1
    assert len(found.fits) == 3 and found.scale_std < 1e-6


def test_fit__mean_over_the_images():
    data = _Data([_pair(0, 0.2, 0.1), _pair(1, 0.4, 0.3)])
    found = fit_scale_shift(_Model(), data)
    assert (found.scale, found.shift) == pytest.approx((0.3, 0.2), rel=1e-5)
    assert found.scale_std == pytest.approx(0.1, rel=1e-4)


def test_fit__bad_images_are_left_out_and_named():
    pair = _pair(0)
    constant, few, broken = (
        (pair[0].copy(), pair[1].copy()) for _ in range(3)
    )
    constant[0][:] = 1
    few[1][1:] = 0
    few[1][0, 3:] = 99
    broken[0][2, 2] = np.nan
    turned = (4 - pair[0], pair[1])
    data = _Data(
        [pair, constant, few, broken, turned, DepthFileError('5.png: torn')]
    )
    found = fit_scale_shift(
        _Model(), data, 'least_squares', bounds=(1e-3, 10.0)
    )
    assert list(found.fits) == ['0.jpg']
    assert 'constant' in found.bad['1.jpg']
    assert found.bad['2.jpg'].startswith('3 pixels')
    assert 'NaN' in found.bad['3.jpg']
    assert 'near and far' in found.bad['4.jpg']
    assert found.bad['5.jpg'] == '5.png: torn'
    assert found.metrics['abs_rel'] < 1e-6
    with pytest.raises(UserValueError, match=r'None of 1 images.*constant'):
        fit_scale_shift(_Model(), _Data([constant]))


def test_fit__benchmark_crop_of_kitti():
    """The prediction covers the crop, the truth the whole image."""
    x, depth = _pair(0, size=KB_SIZE)
    truth = np.full((375, 1242), 7.0)
    # bottom rows, centred columns
    truth[375 - 352 :, 13 : 13 + 1216] = depth
    found = fit_scale_shift(_Model(), _Data([(x, truth)]))
    assert (found.scale, found.shift) == pytest.approx((0.3, 0.1), rel=1e-4)


def test_fit__samples_are_spread():
    data = _Data(_pair(seed) for seed in range(9))
    found = fit_scale_shift(_Model(), data, samples=3, with_metrics=False)
    assert list(found.fits) == ['0.jpg', '4.jpg', '8.jpg']
    assert found.metrics == {}


def test_depth_range__of_the_protocol():
    evaluator = dict(type='mmdense.DepthMetric', protocol='nyu_eigen')
    cfg = Config(dict(test_evaluator=evaluator))
    assert depth_range(cfg) == (1e-3, 10.0)
    other = dict(type='mmdense.WHDRMetric')
    own = dict(type='mmdense.DepthMetric', max_depth=5.0)
    assert depth_range(Config(dict(test_evaluator=[other, own])))[1] == 5.0
    assert depth_range(Config(dict(test_evaluator=other))) == (1e-3, None)


def test_training_images__several_sets_are_refused():
    with pytest.raises(UserValueError, match=r'trains on 3 data sets.*--data'):
        training_images(Config.fromfile(MIX))


@pytest.fixture(scope='module')
def rooms(tmp_path_factory):
    """Relative demo config with its data, and random weights."""
    from mmengine.registry import DefaultScope

    from mmdense.registry import MODELS

    cfg = Config.fromfile(RELATIVE)
    root = str(ROOT / 'demo' / 'data' / 'rooms')
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = root
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdense'):
        model = MODELS.build(cfg.model)
    # by chance dark and bright mean near or far
    torch.nn.init.normal_(model.decode_head.conv_depth.weight, std=1.0)
    torch.nn.init.constant_(model.decode_head.conv_depth.bias, 5.0)
    path = tmp_path_factory.mktemp('rooms') / 'model.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    return cfg, str(path)


def test_fit__rooms_against_a_loop_over_files(rooms):
    cfg, weights = rooms
    cfg, model = relative_model(cfg, weights, 'cpu')
    data = training_images(cfg)
    bounds = depth_range(cfg)
    assert bounds == (1e-3, 10.0) and len(data) == 160
    found = fit_scale_shift(model, data, samples=3, bounds=bounds)
    pairs = []
    for index in (0, 80, 159):
        info = data.get_data_info(index)
        image = cv2.resize(cv2.imread(info['img_path']), (224, 160))
        rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
        part = model.data_preprocessor
        inputs = (rgb.float() - part.mean) / part.std
        with torch.no_grad():
            x = model(inputs[None], mode='tensor')
        mode = cfg.model.test_cfg.interpolation
        x = torch.nn.functional.interpolate(
            x, (240, 320), mode=mode, align_corners=model.align_corners
        )[0, 0].double()
        depth = cv2.imread(info['depth_map_path'], -1) * 1e-3
        seen = (depth > 1e-3) & (depth < 10)
        pairs.append((x.numpy()[seen], depth[seen]))
    own = []
    for x, depth in pairs:
        y = 1 / depth
        scale = np.abs(y - np.median(y)).mean()
        scale /= np.abs(x - np.median(x)).mean()
        own.append((scale, np.median(y) - scale * np.median(x)))
    assert list(found.fits.values()) == [
        pytest.approx(one, rel=2e-2, abs=2e-3) for one in own
    ]
    scale, shift = np.mean(own, axis=0)
    errors = []
    for x, depth in pairs:
        pred = (1 / np.maximum(scale * x + shift, 1e-8)).clip(1e-3, 10)
        errors.append((np.abs(pred - depth) / depth).mean())
    assert found.metrics['abs_rel'] == pytest.approx(np.mean(errors), rel=2e-2)


def test_relative_model__of_the_metric_config(rooms):
    cfg, weights = rooms
    metric = cfg.copy()
    metric.model.decode_head.update(
        output='inverse_affine', scale=1.0, shift=0.1, learn_affine=True
    )
    image = torch.rand(1, 3, 32, 32)
    outs = []
    for one in (cfg, metric):
        model = relative_model(one, weights, 'cpu')[1]
        with torch.no_grad():
            outs.append(model(image, mode='tensor'))
    assert torch.equal(*outs)
    metres = cfg.copy()
    metres.model.decode_head.output = 'sigmoid_range'
    with pytest.raises(UserValueError, match='sigmoid_range.*inverse depth'):
        relative_model(metres, weights, 'cpu')


def test_configs__nyu_is_read_by_its_test_pipeline(tmp_path):
    """Without augmentation; the list is looked for where it should be."""
    cfg = Config.fromfile(NYU)
    with pytest.raises(Exception, match='nyu_train.txt'):
        training_images(cfg, str(tmp_path)).full_init()
