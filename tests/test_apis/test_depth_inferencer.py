"""Depth of images through the API, against the plain model."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdense.apis import DepthInferencer
from mmdense.apis.inference.pipeline import depth_pipeline
from mmdense.datasets.depth.transforms.geometry import dpt_size
from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import build_model
from mmdense.utils.data_settings import inner_datasets
from mmdense.utils.errors import UserValueError
from mmdense.utils.model_settings import forget_initial_weights

ROOMS = ROOT / 'demo' / 'data' / 'rooms'
IMAGES = [str(path) for path in sorted((ROOMS / 'val').glob('*.jpg'))[:3]]
BENCHMARKS = ROOT / 'configs' / 'local_global' / 'benchmarks'
CONFIG = next(BENCHMARKS.glob('uper-depth_vit-demo-*'))
pytestmark = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)


def _config():
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.arch = dict(
        embed_dims=16, num_layers=6, num_heads=2, feedforward_channels=16
    )
    cfg.model.neck.embed_dim = 16
    cfg.model.decode_head.update(in_channels=[16] * 4, channels=16)
    return cfg


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Config, weights and the model itself."""
    folder = tmp_path_factory.mktemp('depth')
    cfg = _config()
    plain = deepcopy(cfg)
    forget_initial_weights(plain.model)
    model = build_model(plain).eval()
    # depth that differs from place to place
    torch.nn.init.normal_(model.decode_head.conv_depth.weight, std=1.0)
    torch.save({'state_dict': model.state_dict()}, folder / 'd.pth')
    # names weights that nobody has: they are not needed
    cfg.model.backbone.init_cfg.checkpoint = 'nowhere.pth'
    cfg.dump(str(folder / 'd.py'))
    return str(folder / 'd.py'), str(folder / 'd.pth'), model


def _plain(model, path, flip=False):
    """Depth by hand: shrink, normalise, predict, enlarge."""
    bgr = cv2.imread(path)
    small = cv2.resize(bgr, (224, 160), interpolation=cv2.INTER_LINEAR)
    rgb = torch.from_numpy(small[..., ::-1].copy()).permute(2, 0, 1).float()
    mean = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    std = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    batch = ((rgb - mean) / std)[None]
    with torch.no_grad():
        depth = model.decode_head(model.extract_feat(batch))
        if flip:
            other = model.decode_head(model.extract_feat(batch.flip(3)))
            depth = (depth + other.flip(3)) / 2
    depth = F.interpolate(depth, batch.shape[2:], mode='bilinear')
    return F.interpolate(depth, bgr.shape[:2], mode='bilinear')[0, 0].numpy()


def test_call__depth_of_the_model_itself(made):
    config, weights, plain = made
    model = DepthInferencer(config, weights, 'cpu')
    assert (model.kind, model.unit) == ('metric', 'metre')
    found = model(IMAGES, batch_size=2, return_vis=True)
    assert found['skipped'] == []
    for index, path in enumerate(IMAGES):
        one = found['predictions'][index]
        assert (one.position, one.name) == (index, path)
        assert one.depth.shape == (240, 320) and one.depth.dtype == np.float32
        assert one.depth.std() > 0.01
        np.testing.assert_allclose(one.depth, _plain(plain, path), atol=1e-4)
        assert np.array_equal(one.image, cv2.imread(path)[..., ::-1])
        assert found['visualization'][index].shape == (240, 320, 3)
        # batches change nothing, nor does a second call
        alone = model(path)['predictions'][0].depth
        np.testing.assert_allclose(one.depth, alone, atol=2e-4)
        assert np.array_equal(alone, model(path)['predictions'][0].depth)


def test_call__flip_and_half_precision(made):
    config, weights, plain = made
    flipped = DepthInferencer(config, weights, 'cpu', flip=True)
    found = flipped(IMAGES[0])['predictions'][0].depth
    expected = _plain(plain, IMAGES[0], flip=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    half = DepthInferencer(config, weights, 'cpu', amp='bf16')
    found = half(IMAGES[0])['predictions'][0].depth
    expected = _plain(plain, IMAGES[0])
    assert found.dtype == np.float32 and not np.array_equal(found, expected)
    assert np.abs(found - expected).mean() < 0.05 * expected.mean()
    with pytest.raises(UserValueError, match='needs a GPU'):
        DepthInferencer(config, weights, 'cpu', amp='fp16')
    with pytest.raises(UserValueError, match='choose from fp16, bf16'):
        DepthInferencer(config, weights, 'cpu', amp='int8')


def test_call__images_of_many_sizes_and_bad_ones(made, tmp_path):
    """Each comes back at its own size; those that fail are named."""
    config, weights, _ = made
    cfg = Config.fromfile(config)
    steps = cfg.test_dataloader.dataset.pipeline
    steps[1] = dict(type='mmseg.Resize', scale=(224, 160), keep_ratio=True)
    model = DepthInferencer(cfg, weights, 'cpu')
    bgr = cv2.imread(IMAGES[0])
    cut = tmp_path / 'cut.jpg'
    cut.write_bytes(Path(IMAGES[0]).read_bytes()[:3000])
    wide, tall = bgr[:100], bgr[:, :150]
    grey, alpha = bgr[..., 0], np.dstack([bgr, bgr[..., :1]])
    inputs = [bgr, wide, str(cut), tall, bgr, wide, bgr.astype(float), grey]
    inputs += [bgr[:200, :200], bgr[:130, :310], bgr[:50, :60], alpha]
    found = model(inputs, batch_size=2)
    assert [name for name, _ in found['skipped']] == [str(cut), 'array 6']
    assert 'truncated' in found['skipped'][0][1]
    depths = [p and p.depth for p in found['predictions']]
    for index, (item, depth) in enumerate(zip(inputs, depths)):
        if index in (2, 6):
            assert depth is None
            continue
        assert depth.shape == item.shape[:2]
        alone = model(item)['predictions'][0].depth
        np.testing.assert_allclose(depth, alone, atol=2e-4)
    np.testing.assert_allclose(depths[11], depths[0], atol=2e-4)


def test_call__depth_that_is_not_finite_is_no_depth(made):
    config, weights, _ = made
    model = DepthInferencer(config, weights, 'cpu')
    real = model.model.test_step
    bad = cv2.imread(IMAGES[0])
    bad[:] = 0

    def test_step(data):
        samples = real(data)
        for image, sample in zip(data['inputs'], samples):
            if not image.any():
                sample.pred_depth_map.data[0, 0, :5] = float('nan')
        return samples

    model.model.test_step = test_step
    good = cv2.imread(IMAGES[0])
    found = model([good, bad, good], batch_size=3)
    (name, reason) = found['skipped'][0]
    assert len(found['skipped']) == 1 and name == 'array 1'
    assert '5 pixels' in reason and 'not finite' in reason
    assert [p is None for p in found['predictions']] == [False, True, False]


class _Position:
    """A "model" whose depth is a function of what the image shows.

    The image shows its own coordinates, so windows can be told apart.
    """

    def __init__(self, relative):
        self.relative = relative
        self.shapes = []

    def test_step(self, data):
        samples = []
        self.shapes.append([tuple(x.shape[1:]) for x in data['inputs']])
        for image in data['inputs']:
            blue, green, red = image.float()
            depth = 0.01 * blue - 0.02 * green + 0.03 * red + 6
            if self.relative:
                # each window has a scale and a shift of its own
                depth = (depth - depth.min()) / (depth.max() - depth.min())
            wrapped = SimpleNamespace(data=depth[None])
            samples.append(SimpleNamespace(pred_depth_map=wrapped))
        return samples


@pytest.mark.parametrize('relative', [False, True])
def test_tiles__reproduce_the_whole_image(made, relative):
    config, weights, _ = made
    cfg = Config.fromfile(config)
    steps = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [
        step for step in steps if 'Resize' not in step['type']
    ]
    model = DepthInferencer(cfg, weights, 'cpu', tile=(64, 96), overlap=0.3)
    stub = _Position(relative)
    model.model = stub
    model.kind = 'relative' if relative else 'metric'
    y, x = np.mgrid[:150, :230]
    image = np.stack([x, y, (x + y) // 2], 2).astype(np.uint8)
    found = model(image, batch_size=4)
    assert found['skipped'] == []
    depth = found['predictions'][0].depth
    windows = [shape for call in stub.shapes for shape in call]
    assert set(windows[relative:]) == {(64, 96)}
    assert max(map(len, stub.shapes)) == 4
    whole = model._depth([model.pipeline(image)[0]])[0]
    np.testing.assert_allclose(depth, whole, atol=1e-5)
    # no larger than a window: as it is
    stub.shapes.clear()
    model(np.ascontiguousarray(image[:64, :96]))
    assert stub.shapes == [[(64, 96)]]


def test_tiles__of_a_model_that_resizes_metric_depth(made, monkeypatch):
    """Works, and tells once that windows look nearer."""
    config, weights, _ = made
    told = []
    monkeypatch.setattr(
        'mmdense.apis.inference.depth.print_log',
        lambda text, **_: told.append(text),
    )
    model = DepthInferencer(config, weights, 'cpu', tile=(120, 160))
    found = model(IMAGES[:2], batch_size=5)
    assert found['skipped'] == []
    assert all(p.depth.shape == (240, 320) for p in found['predictions'])
    assert len(told) == 1 and '2.0 times larger' in told[0]
    again = model(IMAGES[0])['predictions'][0].depth
    expected = found['predictions'][0].depth
    np.testing.assert_allclose(again, expected, atol=1e-4)


def test_max_side__bounds_what_the_model_sees(made):
    config, weights, _ = made
    cfg = Config.fromfile(config)
    data = cfg.test_dataloader.dataset
    data.pipeline = [s for s in data.pipeline if 'Resize' not in s['type']]
    model = DepthInferencer(cfg, weights, 'cpu', max_side=160)
    assert model.settings['max_side'] == 160
    bgr = cv2.imread(IMAGES[0])
    found = model([bgr, IMAGES[0]], batch_size=2)['predictions']
    small = cv2.resize(bgr, (160, 120), interpolation=cv2.INTER_AREA)
    inputs = model.pipeline(bgr)[0]['inputs']
    assert np.array_equal(inputs.numpy(), small.transpose(2, 0, 1))
    alone = torch.from_numpy(model(small)['predictions'][0].depth)
    expected = F.interpolate(alone[None, None], (240, 320), mode='bilinear')
    for one in found:
        assert one.image.shape == (240, 320, 3)
        np.testing.assert_allclose(one.depth, expected[0, 0], atol=2e-4)
    with pytest.raises(UserValueError, match='max_side=3'):
        DepthInferencer(cfg, weights, 'cpu', max_side=3)


def test_predict__many_pixels_are_told_of_once(made, monkeypatch):
    config, weights, _ = made
    told = []
    monkeypatch.setattr(
        'mmdense.apis.inference.depth.print_log',
        lambda text, **_: told.append(text),
    )
    monkeypatch.setattr('mmdense.apis.inference.depth._MANY_PIXELS', 30_000)
    model = DepthInferencer(config, weights, 'cpu')
    model(IMAGES)
    assert len(told) == 1 and '224x160 pixels' in told[0]
    assert '--max-side' in told[0]


@pytest.mark.parametrize(
    'name,size',
    [
        ('nyu_bts_h5', (131, 217)),
        # squeezed, and no more cut
        ('nyu_fastdepth_h5', (224, 224)),
        ('nyu_bts_list', (131, 217)),
        ('nyu_mat', (131, 217)),
        ('kitti_eigen', (131, 217)),
        ('cityscapes_depth', (352, 1216)),
        ('mix3_relative', (224, 384)),
    ],
)
def test_pipeline__whole_images_of_any_size(name, size, tmp_path):
    """No crop of a protocol, no depth; HDF5 gives way to image files."""
    base = ROOT / 'configs' / '_base_' / 'datasets' / f'{name}.py'
    cfg = Config.fromfile(base)
    steps = inner_datasets(cfg.test_dataloader.dataset)[0]['pipeline']
    before = deepcopy(list(steps))
    path = tmp_path / 'a.png'
    picture = cv2.imread(IMAGES[0])[:131, :217]
    cv2.imwrite(str(path), picture)
    with DefaultScope.overwrite_default_scope('mmdense'):
        data, image = depth_pipeline(steps)(str(path))
    assert list(steps) == before
    assert data['inputs'].shape[1:] == size
    assert data['data_samples'].ori_shape == (131, 217)
    assert 'gt_depth_map' not in data['data_samples']
    assert np.array_equal(image, picture)
    if size == (131, 217):
        assert np.array_equal(data['inputs'].permute(1, 2, 0), picture)


@pytest.mark.parametrize('to_float32', [True, False])
def test_inferencer__resizes_like_the_test_pipeline(made, to_float32):
    config, weights, model = made
    cfg = Config.fromfile(config)
    resize = dict(
        type='mmdense.DPTResize', scale=(192, 160), to_float32=to_float32
    )
    data = inner_datasets(cfg.test_dataloader.dataset)[0]
    data['pipeline'] = [
        dict(type='mmdense.LoadImage'),
        resize,
        dict(type='mmdense.PackDepthInputs'),
    ]
    inferencer = DepthInferencer(cfg, weights, device='cpu')
    image = cv2.imread(IMAGES[0])
    given = image.astype(np.float32) if to_float32 else image
    size = (192, 160)
    assert dpt_size(*image.shape[1::-1], size) != image.shape[1::-1]
    small = cv2.resize(
        given,
        dpt_size(*image.shape[1::-1], size),
        interpolation=cv2.INTER_CUBIC,
    )
    seen = []
    forward = inferencer.model.test_step
    inferencer.model.test_step = lambda data: (
        seen.extend(data['inputs']),
        forward(data),
    )[1]
    for item in (IMAGES[0], image):
        found = inferencer(item)['predictions'][0]
        assert found.depth.shape == image.shape[:2]
        assert found.image.dtype == np.uint8
    wanted = torch.float32 if to_float32 else torch.uint8
    assert [inputs.dtype for inputs in seen] == [wanted] * 2
    for inputs in seen:
        np.testing.assert_array_equal(inputs.numpy().transpose(1, 2, 0), small)


def test_inferencer__relative_depth_says_so(made):
    config, weights, _ = made
    cfg = Config.fromfile(config)
    cfg.model.decode_head.update(output='relative', init_depth=None)
    cfg.model.decode_head.loss_decode = dict(
        type='mmdense.SILogLoss', variant='toolbox'
    )
    model = DepthInferencer(cfg, weights, 'cpu')
    found = model(IMAGES[0])['predictions'][0]
    assert (found.kind, found.unit) == ('relative', None)
    assert (model.kind, model.unit) == ('relative', None)
    assert found.depth.min() >= 0


def test_inferencer__other_tasks_are_refused(made):
    config = next(BENCHMARKS.glob('linear_vit-demo-*'))
    with pytest.raises(UserValueError, match='tools/infer.py'):
        DepthInferencer(str(config), 'any.pth')
    with pytest.raises(UserValueError, match='overlap'):
        DepthInferencer(made[0], made[1], 'cpu', tile=64, overlap=0.9)
