import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmdense.apis import onnx as api
from mmdense.models.backbones.resnetv2 import StandardizedConv2d
from mmdense.utils.errors import UserValueError

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]


def _config(kind='vit', bgr_to_rgb=True, **head):
    backbone = dict(
        type='mmdense.VisionTransformer',
        arch=ARCH,
        img_size=32,
        out_type='tokens',
        out_indices=(0, 1, 2, 3),
        final_norm=False,
    )
    decode = dict(
        type='mmdense.DPTDepthHead',
        in_channels=(16,) * 4,
        reassemble_channels=(8, 8, 16, 16),
        channels=16,
        loss_decode=dict(type='mmdense.SILogLoss'),
    )
    if kind == 'hybrid':
        backbone = dict(
            type='mmdense.HybridVisionTransformer',
            arch=ARCH,
            img_size=32,
            layers=(1, 1, 1),
            out_indices=('stem0', 'stem1', 2, 3),
        )
        decode.update(
            in_channels=(256, 512, 16, 16),
            levels=('map', 'map', 'tokens', 'tokens'),
            reassemble_channels=(256, 512, 16, 16),
        )
    decode.update(head)
    model = dict(
        type='mmdense.DepthEstimator',
        data_preprocessor=dict(
            type='mmseg.SegDataPreProcessor',
            mean=MEAN,
            std=STD,
            bgr_to_rgb=bgr_to_rgb,
        ),
        backbone=backbone,
        decode_head=decode,
    )
    if kind == 'seg':
        model.update(type='mmseg.EncoderDecoder', test_cfg=dict(mode='whole'))
        decode.update(
            type='mmdense.DPTSegHead',
            num_classes=5,
            norm_cfg=dict(type='SyncBN'),
        )
        decode.pop('loss_decode')
    return Config(dict(default_scope='mmdense', model=model))


@pytest.fixture(autouse=True)
def _random(monkeypatch):
    """Weights that make every part of the network matter."""
    build = api.build_predictor

    def randomized(config, checkpoint, trust=None):
        model = build(config, checkpoint, trust)
        torch.manual_seed(0)
        for value in model.parameters():
            std = value[0].numel() ** -0.5 if value.ndim > 1 else 0.5
            torch.nn.init.normal_(value, mean=value.ndim == 1, std=std)
        return model

    monkeypatch.setattr(api, 'build_predictor', randomized)


def _run(path, image):
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    return session.run(None, {'image': image})[0]


@pytest.mark.parametrize('kind', ['vit', 'hybrid', 'seg'])
def test_export__equals_pytorch(tmp_path, kind, capsys):
    import onnx

    path = tmp_path / 'new' / 'x.onnx'
    check = api.export_onnx(_config(kind), None, str(path), (64, 96))
    assert check.shape == (1, 5 if kind == 'seg' else 1, 64, 96)
    assert check.max_rel < 1e-4
    assert 'image 1x3x64x96' in capsys.readouterr().out
    names = {node.op_type for node in onnx.load(str(path)).graph.node}
    # what remains of resizing is the decoder's; nothing of the positions
    assert 'ReduceL2' not in names and 'If' not in names
    model = api.build_predictor(_config(kind), None)
    image = torch.randn(1, 3, 64, 96)
    metas = [dict(img_shape=(64, 96))]
    with torch.no_grad():
        wanted = model.encode_decode(image, metas).numpy()
    found = _run(path, image.numpy())
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert wanted.std() > 0.01 * np.abs(wanted).max()


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_export__raw_input_is_rgb(tmp_path, bgr_to_rgb):
    cfg = _config(bgr_to_rgb=bgr_to_rgb)
    path = tmp_path / 'x.onnx'
    api.export_onnx(cfg, None, str(path), (32, 32), raw_input=True)
    model = api.build_predictor(cfg, None)
    rgb = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    # images are loaded as BGR, the preprocessor does the rest
    data = model.data_preprocessor(
        dict(inputs=[rgb.flip(0)], data_samples=None)
    )
    with torch.no_grad():
        wanted = model.encode_decode(data['inputs'], [{}]).numpy()
    found = _run(path, rgb[None].float().numpy())
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_export__metric_depth_keeps_its_range(tmp_path):
    cfg = _config(output='sigmoid_range', min_depth=2.0, max_depth=2.5)
    path = tmp_path / 'x.onnx'
    api.export_onnx(cfg, None, str(path), (32, 32))
    out = _run(path, 50 * np.random.randn(1, 3, 32, 32).astype(np.float32))
    assert out.min() >= 2.0 and out.max() <= 2.5


def test_export__difference_writes_nothing(tmp_path):
    path = tmp_path / 'x.onnx'
    with pytest.raises(api.OnnxError, match='not equal.*--tolerance'):
        api.export_onnx(_config(), None, str(path), (32, 32), tolerance=-1)
    assert list(tmp_path.iterdir()) == []


def test_export__bad_requests(tmp_path, monkeypatch):
    target = str(tmp_path / 'x.onnx')
    with pytest.raises(UserValueError, match='multiples of 32'):
        api.export_onnx(_config(), None, target, (100, 64))
    with pytest.raises(UserValueError, match='opset'):
        api.export_onnx(_config(), None, target, (64, 64), opset=11)
    cfg = _config()
    cfg.model.data_preprocessor = dict(type='mmseg.SegDataPreProcessor')
    with pytest.raises(UserValueError, match='mean and std'):
        api.export_onnx(cfg, None, target, (64, 64), raw_input=True)
    monkeypatch.setattr(api, '_PACKAGES', ('onnx', 'no_such_package'))
    with pytest.raises(
        api.OnnxError, match=r"no_such_package: pip install 'mmdense\[onnx\]'"
    ):
        api.export_onnx(_config(), None, target, (64, 64))


def test_standardized_conv__frozen_is_equal():
    conv = StandardizedConv2d(4, 8, 3, 2)
    x = torch.randn(1, 4, 9, 9)
    before = conv(x)
    for _ in range(2):
        conv.freeze_standardized()
        assert torch.equal(conv(x), before)


def test_tool__checkpoint_and_message(tmp_path, monkeypatch, capsys):
    from mmdense.testing.launch import ROOT

    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'model_converters'))
    import export_onnx as tool

    cfg = _config()
    path, weights = tmp_path / 'cfg.py', tmp_path / 'x.pth'
    cfg.dump(str(path))
    model = api.build_predictor(cfg, None)
    torch.save({'state_dict': model.state_dict()}, weights)
    argv = ['x', str(path), str(weights), str(tmp_path / 'x.onnx')]
    monkeypatch.setattr(sys, 'argv', [*argv, '--size', '32', '64'])
    tool.main()
    assert '1x3x32x64' in capsys.readouterr().out
    monkeypatch.setattr(sys, 'argv', [*argv, '--size', '33', '64'])
    with pytest.raises(SystemExit) as stop:
        tool.main()
    text = str(stop.value) + capsys.readouterr().err
    assert 'multiples of 32' in text
