"""The recipes of DPT: what the paper states, and how far mmseg's differs."""

import importlib.util
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

import mmdense  # noqa: F401
from mmdense.registry import MODELS, toolbox_installed
from mmdense.results.config_hash import initial_weights
from mmdense.results.plan import last_checkpoint
from mmdense.results.published import lines
from mmdense.results.zoo import Zoo
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import build_model, tiny_config
from mmdense.utils.errors import UserError
from mmdense.utils.tta import apply_tta

pytestmark = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)
FOLDER = ROOT / 'configs/dpt'
PATHS = {
    path.stem: path
    for path in [*FOLDER.glob('*.py'), *FOLDER.glob('benchmarks/*.py')]
}
ZOO = Zoo(ROOT)
NONE = '(absent)'
ADE = 'dpt_vit-{}-p16_vit-in21k-384-pre_8xb6-240e_ade20k-480x480'
MIX3 = '1xb16-60e_mix3-384x384'
MIX10 = 'dpt_{}_dpt-mix3-60e-pre_1xb16-60e_mix10-384x384'


def read(stem):
    return Config.fromfile(str(PATHS[stem]))


def _table(text):
    """``path | stock | ours`` a line, values in YAML, ``-`` for absent."""
    found = {}
    for line in filter(None, text.splitlines()):
        path, *values = (part.strip() for part in line.split(' | '))
        stock, ours = (
            NONE if value == '-' else yaml.safe_load(value) for value in values
        )
        found[path] = (stock, ours)
    return found


# mmseg trains DPT in a way of its own; stock value, then ours
STOCK = 'mmseg::dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py'
PIPELINES = ''.join(
    f"""
{part}_dataloader.dataset.pipeline.1.type | Resize | mmdense.DPTResize
{part}_dataloader.dataset.pipeline.1.scale | [2048, 512] | [480, 480]
{part}_dataloader.dataset.pipeline.1.keep_ratio | true | -
{part}_dataloader.dataset.pipeline.1.multiple | - | 32"""
    for part in ('val', 'test')
)
DIFFERENCES = _table(
    """
auto_scale_lr.base_batch_size | - | 48
model.auxiliary_head | null | -
model.backbone.arch | - | base
model.backbone.embed_dims | 768 | -
model.backbone.img_size | 224 | 384
model.backbone.init_cfg.type | - | mmdense.Pretrained
model.backbone.interpolate_mode | - | bilinear
model.backbone.num_heads | 12 | -
model.backbone.num_layers | 12 | -
model.backbone.out_type | - | tokens
model.backbone.output_cls_token | true | -
model.backbone.patch_size | - | 16
model.backbone.type | VisionTransformer | mmdense.VisionTransformer
model.backbone.with_cls_token | true | -
model.data_preprocessor.mean | [123.675, 116.28, 103.53] | [127.5, 127.5, 127.5]
model.data_preprocessor.size | [512, 512] | [480, 480]
model.data_preprocessor.std | [58.395, 57.12, 57.375] | [127.5, 127.5, 127.5]
model.data_preprocessor.test_cfg.size_divisor | - | 32
model.decode_head.aux_weight | - | 0.2
model.decode_head.dropout_ratio | - | 0.1
model.decode_head.embed_dims | 768 | -
model.decode_head.in_index | [0, 1, 2, 3] | -
model.decode_head.input_transform | multiple_select | -
model.decode_head.levels | - | [tokens, tokens, tokens, tokens]
model.decode_head.loss_decode.loss_weight | 1.0 | -
model.decode_head.loss_decode.use_sigmoid | false | -
model.decode_head.post_process_channels | [96, 192, 384, 768] | -
model.decode_head.readout | - | project
model.decode_head.readout_type | project | -
model.decode_head.reassemble_channels | - | [96, 192, 384, 768]
model.decode_head.type | DPTHead | mmdense.DPTSegHead
model.test_cfg.interpolation | - | bicubic
model.type | EncoderDecoder | mmdense.EncoderDecoder
model.pretrained | pretrain/vit-b16_p16_224-80ecf9dd.pth | -
optim_wrapper.optimizer.betas | [0.9, 0.999] | -
optim_wrapper.optimizer.lr | 0.00006 | 0.002
optim_wrapper.optimizer.momentum | - | 0.9
optim_wrapper.optimizer.type | AdamW | SGD
optim_wrapper.optimizer.weight_decay | 0.01 | 0.0001
optim_wrapper.paramwise_cfg.custom_keys.cls_token.decay_mult | 0.0 | -
optim_wrapper.paramwise_cfg.custom_keys.norm.decay_mult | 0.0 | -
optim_wrapper.paramwise_cfg.custom_keys.pos_embed.decay_mult | 0.0 | -
param_scheduler.0.end | 1500 | 101050
param_scheduler.0.eta_min | - | 0.0
param_scheduler.0.power | - | 0.9
param_scheduler.0.start_factor | 0.000001 | -
param_scheduler.0.type | LinearLR | PolyLR
param_scheduler.1.begin | 1500 | -
param_scheduler.1.by_epoch | false | -
param_scheduler.1.end | 160000 | -
param_scheduler.1.eta_min | 0.0 | -
param_scheduler.1.power | 1.0 | -
param_scheduler.1.type | PolyLR | -
train_cfg.max_iters | 160000 | 101050
train_dataloader.batch_size | 2 | 6
train_dataloader.dataset.pipeline.2.resize_type | - | Resize
train_dataloader.dataset.pipeline.2.scale | [2048, 512] | [520, 520]
train_dataloader.dataset.pipeline.3.cat_max_ratio | 0.75 | 1.0
train_dataloader.dataset.pipeline.3.crop_size | [512, 512] | [480, 480]
train_dataloader.dataset.pipeline.5.type | PhotoMetricDistortion | PackSegInputs
train_dataloader.dataset.pipeline.6.type | PackSegInputs | -
"""  # noqa: E501
    + PIPELINES
)


def _stock_parity():
    path = Path(__file__).with_name('test_stock_parity.py')
    spec = importlib.util.spec_from_file_location('stock_parity', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ade20k__differs_from_mmseg_as_written():
    parity = _stock_parity()
    stock = Config.fromfile(str(parity._stock_path(STOCK)))
    ours = parity.flatten(read(ADE.format('base')), 'mmseg')
    found = parity.compare(ours, parity.flatten(stock, 'mmseg'))
    undeclared = {k: v for k, v in found.items() if DIFFERENCES.get(k) != v}
    assert undeclared == {}
    assert [k for k in DIFFERENCES if k not in found] == []


BASE = ([2, 5, 8, 11], ['tokens'] * 4, [96, 192, 384, 768], 'project')
HYBRID = (
    ['stem0', 'stem1', 8, 11],
    ['map', 'map', 'tokens', 'tokens'],
    [256, 512, 768, 768],
    'project',
)
MAPS = (None, ['map'] * 4, None, 'project')
V = 'vit-in21k-384-pre'
ROWS = {
    f'dpt_vit-base-p16_{V}_{MIX3}': BASE,
    f'dpt_vit-hybrid-p16_{V}_{MIX3}': HYBRID,
    f'dpt_vit-large-p16_{V}_{MIX3}': (
        [5, 11, 17, 23],
        ['tokens'] * 4,
        [256, 512, 1024, 1024],
        'project',
    ),
    f'dpt_resnext101-32x8d_wsl-pre_{MIX3}': MAPS,
    f'dpt_resnet50_torchvision-in1k-pre_{MIX3}': MAPS,
    f'dpt_deit-base-p16_deit-pre_{MIX3}': BASE,
    f'dpt_deit-base-distilled-p16_deit-pre_{MIX3}': BASE,
    f'dpt-ignore_vit-base-p16_{V}_{MIX3}': (*BASE[:3], 'ignore'),
    f'dpt-add_vit-base-p16_{V}_{MIX3}': (*BASE[:3], 'add'),
    f'dpt-ignore-taps6-8-10-12_vit-base-p16_{V}_{MIX3}': (
        [5, 7, 9, 11],
        *BASE[1:3],
        'ignore',
    ),
    f'dpt-ignore-taps9-10-11-12_vit-base-p16_{V}_{MIX3}': (
        [8, 9, 10, 11],
        *BASE[1:3],
        'ignore',
    ),
    f'dpt-ignore_vit-hybrid-p16_{V}_{MIX3}': (*HYBRID[:3], 'ignore'),
    f'dpt-ignore-taps3-6-9-12_vit-hybrid-p16_{V}_{MIX3}': (
        *BASE[:3],
        'ignore',
    ),
    ADE.format('base'): BASE,
    ADE.format('hybrid'): HYBRID,
}


@pytest.mark.parametrize('stem', ROWS)
def test_row__taps_levels_widths_and_readout(stem):
    model = read(stem).model
    head = model.decode_head
    taps, levels, widths, readout = ROWS[stem]
    convolutional = taps is None
    assert list(model.backbone.out_indices) == (taps or [0, 1, 2, 3])
    assert head.levels == levels
    assert head.reassemble_channels == widths
    assert head.get('readout') == readout
    assert head.get('with_project', True) != convolutional
    assert model.backbone.get('final_norm', False) is False


@pytest.mark.parametrize('word', ['mix3', 'mix10'])
def test_relative__schedule_and_space_of_the_paper(word):
    for stem in PATHS:
        if f'_{word}-' not in stem:
            continue
        cfg = read(stem)
        assert cfg.train_cfg.max_iters == 60 * 72000
        assert cfg.param_scheduler == []
        assert cfg.train_dataloader.batch_size == 16
        head = cfg.model.decode_head
        assert head.output == 'relative'
        assert head.loss_decode == dict(
            type='mmdense.SSILoss', variant='trimmed'
        )
        crops = [
            step.crop_size
            for part in cfg.train_dataloader.dataset.datasets
            for step in part.pipeline
            if step.type == 'mmseg.RandomCrop'
        ]
        assert set(map(tuple, crops)) == {(384, 384)}


def _groups(stem):
    """Group of the optimiser by parameter, of a small model."""
    cfg = deepcopy(read(stem))
    cfg.model.backbone.update(
        init_cfg=None,
        arch=dict(
            embed_dims=48, num_layers=4, num_heads=2, feedforward_channels=48
        ),
        out_indices=[0, 1, 2, 3],
    )
    cfg.model.decode_head.update(
        in_channels=[48] * 4, reassemble_channels=[8] * 4, channels=16
    )
    with DefaultScope.overwrite_default_scope('mmdense'):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: group
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }, model


@pytest.mark.parametrize(
    'stem',
    [
        f'dpt_vit-base-p16_{V}_{MIX3}',
        'dpt_vit-base-p16_dpt-mix10-60e-pre_1xb16-20e_nyu-416x544',
    ],
)
def test_adam__a_tenth_of_the_rate_for_each_parameter_of_the_backbone(stem):
    groups, model = _groups(stem)
    assert set(groups) == {name for name, _ in model.named_parameters()}
    for name, group in groups.items():
        wanted = 1e-5 if name.startswith('backbone.') else 1e-4
        assert group['lr'] == pytest.approx(wanted), name
        assert group['weight_decay'] == 0


def test_toolbox__one_rate_and_no_decay_of_norms_and_positions():
    stem = 'dpt_vit-base-p16_augreg-pre_8xb2-24e_nyu-416x544'
    groups, model = _groups(stem)
    free = {'backbone.cls_token', 'backbone.pos_embed'}
    free |= {n for n in groups if '.ln1.' in n or '.ln2.' in n}
    # four blocks with two norms
    assert len(free) == 2 + 4 * 2 * 2
    for name, group in groups.items():
        assert group['lr'] == pytest.approx(1e-4)
        assert group['weight_decay'] == (0 if name in free else 0.01), name
    cfg = read(stem)
    (cycle,) = cfg.param_scheduler
    assert cycle.total_steps == cfg.train_cfg.max_epochs == 24
    assert cfg.optim_wrapper.clip_grad.max_norm == 35
    assert cfg.model.decode_head.loss_decode == dict(
        type='mmdense.SILogLoss', variant='toolbox', warm_up_iters=100
    )
    assert cfg.model.test_cfg.flip is True


@pytest.mark.parametrize(
    ('data', 'scale', 'shift', 'protocol'),
    [
        ('nyu', 3.05e-4, 0.1378, 'nyu_eigen'),
        ('kitti', 6.016e-5, 5.79e-3, 'kitti_garg_full'),
    ],
)
def test_metric__output_loss_and_protocol(data, scale, shift, protocol):
    for stem in PATHS:
        if f'_{data}-' not in stem.rsplit('-pre_')[-1] or 'augreg' in stem:
            continue
        cfg = read(stem)
        head = cfg.model.decode_head
        # those of the released models fit no other one
        released = '-0e_' in stem
        wanted = (scale, shift) if released else (None, None)
        assert (head.scale, head.shift) == wanted
        assert head.output == 'inverse_affine'
        losses = head.loss_decode
        losses = losses if isinstance(losses, list) else [losses]
        assert losses[0] == dict(
            type='mmdense.SILogLoss', variant='eigen_squared'
        )
        # the truth of KITTI is sparse
        gradient = dict(
            type='mmdense.DepthGradientLoss',
            mode='multi_scale',
            loss_weight=0.5,
        )
        assert losses[1:] == ([gradient] if data == 'nyu' else [])
        assert cfg.test_evaluator.protocol == protocol
        assert cfg.val_evaluator == cfg.test_evaluator


def test_metric__what_is_not_scored_does_not_train():
    found = []
    for stem in PATHS:
        data = stem.rsplit('_', 1)[-1].split('-')[0]
        if data in ('nyu', 'kitti'):
            head = read(stem).model.decode_head
            assert head.max_depth == (10.0 if data == 'nyu' else 80.0)
            assert head.valid_range == (1e-3, head.max_depth)
            found.append(stem)
    assert len(found) == 2 * (3 + 1 + 1)


def test_metric__open_scale_and_shift_stop_the_training():
    cfg = read('dpt_vit-base-p16_dpt-mix10-60e-pre_1xb16-20e_nyu-416x544')
    model = build_model(tiny_config(cfg))
    assert model.decode_head.depth_output.scale == 1.0
    small = tiny_config(cfg)
    small.model.decode_head.update(scale=None, shift=None)
    model = build_model(small)
    with pytest.raises(UserError, match=r'model\.decode_head\.scale'):
        model(torch.randn(1, 3, 64, 64), mode='tensor')


def test_start__of_a_whole_model_is_what_the_earlier_stage_leaves():
    found = 0
    for stem in PATHS:
        cfg = read(stem)
        start = cfg.benchmark.pretraining.get('config')
        if start is None or '_rooms-' in stem:
            continue
        path = PATHS[start]
        place = path.relative_to(ROOT).as_posix()
        wanted = last_checkpoint(Config.fromfile(str(path)), place)
        assert initial_weights(cfg) == cfg.load_from == wanted
        found += 1
    assert found == 4 + 6 + 1


def test_start__public_weights_are_those_of_their_entry():
    for stem in PATHS:
        cfg = read(stem)
        key = cfg.benchmark.pretraining.get('weights')
        if key is None:
            continue
        entry = ZOO.public_weights[key]
        if cfg.train_cfg.get('max_epochs') == 0:
            assert initial_weights(cfg) is None
            continue
        assert initial_weights(cfg) == f'checkpoints/{entry["File"]}'
        mean = cfg.model.data_preprocessor.mean
        assert mean == pytest.approx(entry['Mean'], abs=0.01), stem


def test_rows__each_line_of_the_paper_has_one_config():
    own = [
        key
        for key, rows in lines().items()
        if rows[0].paper == 'DPT' and rows[0].owned_by_paper
    ]
    assert len(own) == 90
    counts = {key: len(ZOO.reproducing.get(key, [])) for key in own}
    assert set(counts.values()) == {1}


@pytest.mark.parametrize(
    ('table', 'stem'),
    [
        ('DPT:Table 1', MIX10.format('vit-large-p16')),
        ('DPT:Table 8', f'dpt_vit-base-p16_{V}_{MIX3}'),
    ],
)
def test_rows__of_a_test_of_several_sets_are_those_of_the_table(table, stem):
    sets = read(stem).benchmark.dataset
    own = [
        rows[0].dataset
        for rows in ZOO.configs[stem].rows
        if rows[0].source_table == table
    ]
    assert sorted(own) == sorted(sets)


def test_tta__bicubic_logits_of_each_scale_and_flip():
    from mmseg.structures import SegDataSample

    cfg = tiny_config(read(ADE.format('base')))
    apply_tta(cfg)
    model = build_model(cfg).eval()
    inner = model.module
    shape = dict(img_path='a.jpg', ori_shape=(40, 50), img_shape=(64, 64))
    views = [dict(shape, flip=flip) for flip in (False, True)]
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    (got,) = model.test_step(
        dict(
            inputs=[[image] for image in images],
            data_samples=[[SegDataSample(metainfo=meta)] for meta in views],
        )
    )
    expected = torch.zeros(inner.decode_head.num_classes, 40, 50)
    for image, meta in zip(images, views):
        data = inner.data_preprocessor(
            dict(inputs=[image], data_samples=[SegDataSample()])
        )
        with torch.no_grad():
            logits = inner.encode_decode(data['inputs'], [meta])
        if meta['flip']:
            logits = logits.flip(3)
        expected += F.interpolate(logits, (40, 50), mode='bicubic')[0].softmax(
            0
        )
    assert torch.equal(got.pred_sem_seg.data[0], expected.argmax(dim=0))


def test_tta__six_scales_and_flips():
    for stem in (ADE.format('hybrid'), ADE.format('large')):
        cfg = read(stem)
        assert cfg.benchmark.tta is True
        scales, flips, *_ = cfg.tta_pipeline[1].transforms
        assert [step.scale[0] for step in scales] == [
            *(260, 390, 520, 650, 780, 910)
        ]
        assert [step.prob for step in flips] == [0.0, 1.0]
