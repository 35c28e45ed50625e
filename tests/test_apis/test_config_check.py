import pytest
from mmengine.config import Config, ConfigDict

import mmdense  # noqa: F401
from mmdense.apis.config_check import (
    ConfigError,
    check_config,
    find_problems,
    keywords_of,
)
from mmdense.registry import toolbox_installed

STOCK = {
    'mmpretrain': [
        'mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py',
        'densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py',
        'simclr/simclr_resnet50_16xb256-coslr-200e_in1k.py',
        'byol/byol_resnet50_16xb256-coslr-200e_in1k.py',
        'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
        'resnet/resnet50_8xb32_in1k.py',
        'swin_transformer/swin-tiny_16xb64_in1k.py',
        'deit/deit-small_4xb256_in1k.py',
    ],
    'mmseg': [
        'vit/vit_deit-s16_upernet_8xb2-80k_ade20k-512x512.py',
        'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_'
        'ade20k-512x512.py',
        'dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py',
        'deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py',
        'sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
        'beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py',
        'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        'vpd/vpd_sd_4xb8-25k_nyu-480x480.py',
    ],
    'mmdet': [
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
        'retinanet/retinanet_r50_fpn_1x_coco.py',
        'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
        'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        'yolox/yolox_s_8xb8-300e_coco.py',
    ],
}


@pytest.mark.parametrize(
    'toolbox,name', [(t, n) for t, names in STOCK.items() for n in names]
)
def test_find_problems__stock_configs_have_none(toolbox, name, tmp_path):
    if not toolbox_installed(toolbox):
        pytest.skip(f'{toolbox} is not installed')
    path = tmp_path / 'config.py'
    path.write_text(f"_base_ = '{toolbox}::{name}'\n")
    cfg = Config.fromfile(path)
    problems = find_problems(cfg, check_paths=False)
    # mmseg registers VPD only with the packages of latent diffusion
    problems = [p for p in problems if "'VPD'" not in p]
    assert problems == []


def _config(**changes):
    cfg = {
        'default_scope': 'mmdense',
        'model': {
            'type': 'mmdense.LocalGlobal',
            'backbone': {'type': 'mmpretrain.VisionTransformer'},
            'neck': {'type': 'mmdense.TokenProjector', 'in_channels': 8},
        },
    }
    cfg.update(changes)
    return ConfigDict(cfg)


def test_check_config__good_one_passes():
    check_config(_config())


def test_check_config__names_nearest_component():
    cfg = _config()
    cfg.model.neck.type = 'mmdense.TokenProjektor'
    with pytest.raises(ConfigError) as info:
        check_config(cfg)
    assert 'model.neck.type' in str(info.value)
    assert 'Nearest: TokenProjector' in str(info.value)


def test_check_config__forgotten_prefix():
    cfg = _config()
    cfg.model.backbone.type = 'MobileNetV2'
    with pytest.raises(ConfigError, match='prefix'):
        check_config(cfg)


def test_check_config__unknown_argument_names_nearest():
    cfg = _config()
    cfg.model.neck.hid_chanels = 12
    with pytest.raises(ConfigError) as info:
        check_config(cfg)
    assert 'model.neck.hid_chanels' in str(info.value)
    assert 'hid_channels' in str(info.value)


def test_check_config__misspelt_top_level_key():
    with pytest.raises(ConfigError, match='Nearest: optim_wrapper'):
        check_config(_config(optim_wraper={'type': 'OptimWrapper'}))


def test_check_config__misspelt_key_beside_the_right_one():
    right = {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1}}
    cfg = _config(optim_wrapper=right, optim_wraper={'type': 'X'})
    with pytest.raises(ConfigError, match='optim_wraper: unknown key'):
        check_config(cfg)
    check_config(_config(models={}, val_evaluator_abs={}, dataset_type='x'))


@pytest.mark.parametrize(
    'section,wrong,right',
    [
        ('optim_wrapper.optimizer', 'weigth_decay', 'weight_decay'),
        ('optim_wrapper', 'clip_gradd', 'clip_grad'),
        ('optim_wrapper.paramwise_cfg', 'bias_decay_mul', 'bias_decay_mult'),
        ('train_dataloader', 'batchsize', 'batch_size'),
        ('train_dataloader.sampler', 'shufle', 'shuffle'),
        ('train_cfg', 'max_epoch', 'max_epochs'),
        ('param_scheduler', 'start_facto', 'start_factor'),
        ('randomness', 'sed', 'seed'),
        ('default_hooks.checkpoint', 'intervall', 'interval'),
    ],
)
def test_check_config__misspelt_key_of_any_section(section, wrong, right):
    cfg = _config(
        optim_wrapper={
            'type': 'OptimWrapper',
            'optimizer': {'type': 'AdamW', 'lr': 0.1},
            'paramwise_cfg': {'bias_decay_mult': 0.0},
        },
        train_dataloader={
            'batch_size': 2,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        },
        train_cfg={'type': 'EpochBasedTrainLoop', 'max_epochs': 1},
        param_scheduler={'type': 'LinearLR', 'start_factor': 0.1},
        randomness={'seed': 0},
        default_hooks={'checkpoint': {'type': 'CheckpointHook'}},
    )
    check_config(cfg)
    node = cfg
    for name in section.split('.'):
        node = node[name]
    node[wrong] = 1
    with pytest.raises(ConfigError) as info:
        check_config(cfg)
    text = str(info.value)
    assert f'{section}.{wrong}' in text and right in text


def test_check_config__missing_data_root(tmp_path):
    loader = {
        'batch_size': 2,
        'dataset': {
            'type': 'mmpretrain.CustomDataset',
            'data_root': str(tmp_path / 'nowhere'),
        },
    }
    with pytest.raises(ConfigError) as info:
        check_config(_config(train_dataloader=loader))
    assert 'nowhere' in str(info.value)
    assert 'train_dataloader.dataset.data_root=DIR' in str(info.value)
    check_config(_config(train_dataloader=loader), skip=('train_dataloader',))


def _mixture(tmp_path, *names, **kwargs):
    parts = [
        dict(type='mmdense.DepthFolder', data_root=str(tmp_path / name))
        for name in names
    ]
    dataset = dict(type='mmdense.MixedDepth', datasets=parts, **kwargs)
    sampler = dict(type='DefaultSampler', shuffle=True)
    loader = dict(batch_size=2, sampler=sampler, dataset=dataset)
    return _config(train_dataloader=loader)


def test_check_config__mixture_may_lack_sets(tmp_path):
    pytest.importorskip('mmseg')
    (tmp_path / 'here').mkdir()
    check_config(_mixture(tmp_path, 'here', 'gone', missing='skip'))
    with pytest.raises(ConfigError, match='1 problem') as caught:
        check_config(_mixture(tmp_path, 'here', 'gone'))
    # as --cfg-options takes it
    option = 'train_dataloader.dataset.datasets.1.data_root=DIR'
    assert f'--cfg-options {option}' in str(caught.value)
    with pytest.raises(ConfigError, match='2 problem'):
        check_config(_mixture(tmp_path, 'gone', 'too', missing='skip'))


def test_check_config__epoch_length_needs_seeds(tmp_path):
    pytest.importorskip('mmseg')
    (tmp_path / 'a').mkdir()
    cfg = _mixture(tmp_path, 'a', epoch_length=8)
    with pytest.raises(ConfigError, match='SeededSampler'):
        check_config(cfg)
    cfg.train_dataloader.sampler.type = 'mmdense.SeededSampler'
    check_config(cfg)


def test_check_config__lists_every_mistake():
    cfg = _config()
    cfg.model.neck.type = 'mmdense.Nothing'
    cfg.model.backbone.patchsize = 16
    with pytest.raises(ConfigError, match='2 problem') as info:
        check_config(cfg)
    assert 'patch_size' in str(info.value)


def test_check_config__uninstalled_toolbox_says_what_to_install():
    cfg = _config()
    cfg.model.backbone.type = 'mmrotate.ReResNet'
    with pytest.raises(ConfigError, match='not installed'):
        check_config(cfg)


def test_keywords_of__follows_bases():
    class Base:
        def __init__(self, a, b=1):
            pass

    class Open(Base):
        def __init__(self, c, **kwargs):
            super().__init__(**kwargs)

    class Rest:
        def __init__(self, **kwargs):
            pass

    assert keywords_of(Open) == {'a', 'b', 'c', 'kwargs'}
    assert keywords_of(Rest) is None or 'kwargs' in keywords_of(Rest)
    assert keywords_of(lambda x: x) is None
