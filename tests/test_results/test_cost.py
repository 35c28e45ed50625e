import importlib.util

import pytest
from mmengine.config import Config
from mmengine.utils import get_installed_path

import mmdense  # noqa: F401
from mmdense.registry import toolbox_installed
from mmdense.results.cost import (
    PEAK,
    UTILISATION,
    Cost,
    backbone_macs,
    model_macs,
    training_cost,
)
from mmdense.results.shapes import images_seen, training_shape
from mmdense.testing.launch import ROOT

needs_mmseg = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)
needs_mmdet = pytest.mark.skipif(
    not toolbox_installed('mmdet'), reason='mmdet is not installed'
)


def read(place):
    return Config.fromfile(str(ROOT / 'configs' / place))


@pytest.fixture(scope='module')
def mac_count():
    path = ROOT / 'tools/benchmarks/mac_count.py'
    spec = importlib.util.spec_from_file_location('mac_count', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# published at 224x224: DeiT-S 4.6, ResNet-50 4.1, Swin-T 4.5
@pytest.mark.parametrize(
    ('config', 'published'),
    [
        (dict(type='mmdense.VisionTransformer', arch='deit-small'), 4.6),
        (dict(type='mmpretrain.ResNet', depth=50), 4.1),
        (dict(type='mmpretrain.SwinTransformer', arch='tiny'), 4.5),
    ],
    ids=lambda c: str(c)[:40],
)
def test_backbone__published_multiply_adds(config, published):
    found = backbone_macs(config, (224, 224)) / 1e9
    assert found == pytest.approx(published, rel=0.02)


def test_backbone__vit_by_arithmetic(mac_count):
    config = dict(type='mmdense.VisionTransformer', arch='deit-tiny')
    for side in (224, 448):
        tokens = (side // 16) ** 2
        expected = mac_count.vit_layers(tokens + 1, 192, 12)
        expected += mac_count.patch_embedding(tokens, 192, 16)
        assert backbone_macs(config, (side, side)) == expected


@pytest.mark.parametrize(
    ('place', 'selfpatch'),
    [
        ('dino/dino_vit-small-p16_8xb128-amp-coslr-300e_in1k.py', False),
        (
            'selfpatch/'
            'selfpatch-dino_vit-small-p16_8xb128-amp-coslr-200e_in1k.py',
            True,
        ),
    ],
)
def test_pretraining__agrees_with_the_count_of_a_step(
    mac_count, place, selfpatch
):
    size = mac_count.Sizes(384, 12, 16, ((2, 224), (8, 96)), 1)
    step = sum(mac_count.step_macs(size, selfpatch=selfpatch).values())
    cost = training_cost(read(place), 'ImageNet-1k')
    assert cost.flops == pytest.approx(2 * step, rel=0.05)
    assert cost.images == (200 if selfpatch else 300) * 1281167
    assert cost.amp


@pytest.mark.parametrize(
    ('place', 'views'),
    [
        (
            'local_global/'
            'local-global_vit-tiny-p16_16xb128-amp-coslr-300e_in1k.py',
            2 * 3,
        ),
        # two views, student and teacher
        ('moby/moby_swin-tiny-w7_8xb64-amp-coslr-300e_in1k.py', 2 * 4),
    ],
)
def test_pretraining__is_a_bit_more_than_its_backbones(place, views):
    cost = training_cost(read(place), 'ImageNet-1k')
    passes = 2 * views * cost.forward
    assert passes < cost.flops < 3 * passes


@needs_mmseg
def test_segmentation__linear_head_is_backbone_and_one_layer():
    cfg = read(
        'local_global/benchmarks/linear_vit-small-p16_local-global-300e-pre_'
        '8xb2-64e_ade20k-512x512.py'
    )
    cost = training_cost(cfg, 'ADE20K')
    body = backbone_macs(cfg.model.backbone, (512, 512))
    assert cost.size == (512, 512)
    assert cost.images == 80840 * 16
    classifier = 32 * 32 * 384 * 150
    assert cost.forward == body + classifier
    assert cost.flops == 6 * cost.forward


@needs_mmseg
def test_depth__counts():
    cfg = read(
        'local_global/benchmarks/uper-depth_vit-tiny-p16_local-global-300e-'
        'pre_1xb16-50e_nyu-bts-416x544.py'
    )
    cost = training_cost(cfg, 'NYU Depth V2')
    assert cost.size == (416, 544)
    assert cost.images == 50 * 47584
    assert cost.forward > backbone_macs(cfg.model.backbone, cost.size)


@needs_mmdet
@pytest.mark.parametrize(
    ('name', 'published'),
    [
        # mmdet's flop counts at 1280x800: 260 for Mask R-CNN (which counts
        # 1000 test RoIs of boxes, 100 masks)
        ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', 260),
        ('cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py', 400),
    ],
)
def test_detection__near_published_counts(name, published):
    folder = get_installed_path('mmdet')
    cfg = Config.fromfile(f'{folder}/.mim/configs/{name}')
    found = model_macs(cfg.model, (800, 1280), 'mmdet') / 1e9
    assert 0.75 * published < found < 1.15 * published


def test_shape__of_pipelines():
    def shape(*steps, data=''):
        return training_shape(steps, data)

    scales = [(480, 1333), (640, 1333), (800, 1333)]
    choice = dict(type='RandomChoiceResize', scales=scales, keep_ratio=True)
    assert shape(choice) == (640, 853)
    assert shape(choice, data='mmdet.CityscapesDataset') == (640, 1280)
    nested = dict(type='RandomChoice', transforms=[[choice], []])
    assert shape(nested) == (640, 853)
    crop = dict(type='mmseg.RandomCrop', crop_size=(512, 1024))
    assert shape(choice, crop) == (512, 1024)
    inner = dict(
        type='mmdet.RandomCrop',
        crop_type='absolute_range',
        crop_size=(384, 600),
    )
    assert shape(choice, inner) == (640, 853)
    # (width, height)
    resize = dict(type='mmseg.Resize', scale=(224, 160))
    assert shape(resize) == (160, 224)
    assert shape(dict(type='LoadImageFromFile')) is None


def test_images__repeats_and_unknown_data():
    cfg = dict(
        train_cfg=dict(max_epochs=4),
        train_dataloader=dict(
            batch_size=2,
            dataset=dict(
                type='RepeatDataset',
                times=3,
                dataset=dict(type='X', pipeline=[]),
            ),
        ),
    )
    assert images_seen(cfg, 'PASCAL VOC 2007 + 2012') == 4 * 3 * 16551
    assert images_seen(cfg, 'PASCAL VOC 2012 + SBD') == 4 * 3 * 10582
    assert images_seen(cfg, 'Own images') is None


def test_hours__by_hand():
    cost = Cost(1.0, 2e12, 1e6, (1, 1), amp=True)
    expected = 2e18 / (PEAK['bf16'] * UTILISATION) / 3600
    assert cost.gpu_hours == pytest.approx(expected)
    slow = cost._replace(amp=False)
    assert slow.gpu_hours == pytest.approx(2 * expected)
    assert cost._replace(images=None).gpu_hours is None
