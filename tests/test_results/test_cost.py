import importlib.util

import pytest
from mmengine.config import Config
from mmengine.utils import get_installed_path

import mmdense  # noqa: F401
from mmdense.registry import toolbox_installed
from mmdense.results.cost import (
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
    found = backbone_macs(config, (224, 224))
    assert found.total / 1e9 == pytest.approx(published, rel=0.02)
    # of a transformer the patch embedding alone
    convolutional = 'ResNet' in config['type']
    share = found.conv / found.total
    assert share > 0.99 if convolutional else 0 < share < 0.03


def test_backbone__vit_by_arithmetic(mac_count):
    config = dict(type='mmdense.VisionTransformer', arch='deit-tiny')
    for side in (224, 448):
        tokens = (side // 16) ** 2
        expected = mac_count.vit_layers(tokens + 1, 192, 12)
        expected += mac_count.patch_embedding(tokens, 192, 16)
        assert backbone_macs(config, (side, side)).total == expected


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


def test_utilisation__gives_the_hours_that_dino_states():
    # Caron et al., 2021, Table 8: 72.6 h on 16 V100, peak 125 TFLOP/s
    cfg = read('dino/dino_vit-small-p16_8xb128-amp-coslr-300e_in1k.py')
    groups = next(
        step['views']
        for step in cfg.train_dataloader.dataset.pipeline
        if 'views' in step
    )
    sizes = [group.get('size', 224) for group in groups]
    groups[sizes.index(96)].num = 10
    cost = training_cost(cfg, 'ImageNet-1k')
    speed = 16 * 125e12 * UTILISATION['bf16']
    hours = cost.flops * cost.images / speed / 3600
    assert 72.6 / 2 < hours < 72.6 * 2


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
    assert cost.forward == body.total + classifier
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
    assert cost.forward > backbone_macs(cfg.model.backbone, cost.size).total


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
    found = model_macs(cfg.model, (800, 1280), 'mmdet').total / 1e9
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
    assert cost.gpu_hours == pytest.approx(2e18 / 31.2e12 / 3600)
    # TF32 convolutions have half of that peak, FP32 products no tensor cores
    slow = cost._replace(amp=False, conv=1.0)
    assert slow.gpu_hours == pytest.approx(2 * cost.gpu_hours)
    products = cost._replace(amp=False, conv=0.0)
    assert products.gpu_hours == pytest.approx(2e18 / 9.75e12 / 3600)
    half = cost._replace(amp=False, conv=0.5)
    mean = (slow.gpu_hours + products.gpu_hours) / 2
    assert half.gpu_hours == pytest.approx(mean)
    assert cost._replace(images=None).gpu_hours is None
