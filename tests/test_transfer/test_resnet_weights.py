"""Public ResNet files in the ResNets of mmpretrain, mmdet and mmseg."""

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdense.apis import export_backbone
from mmdense.models.backbones import load_backbone
from mmdense.registry import MODELS
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import build_model, tiny_config
from mmdense.utils.checkpoint import load_checkpoint_file
from mmdense.utils.checkpoint_keys import (
    CheckpointKeyError,
    detect_layout,
    extract_backbone,
    to_canonical,
)

PACKAGES = ['mmpretrain', 'mmdet', 'mmseg']
# Names of ResNet-50 with an eighth of its width.
THIN = dict(depth=50, base_channels=8, stem_channels=8)


def _build(package, **options):
    if package != 'mmpretrain':
        pytest.importorskip(package)
    if package == 'mmdet':
        import mmdet.models  # noqa: F401
    if package == 'mmseg':
        import mmseg.models  # noqa: F401
    kind = options.pop('type', 'ResNet')
    with DefaultScope.overwrite_default_scope('mmdense'):
        return MODELS.build(
            dict(type=f'{package}.{kind}', **{**THIN, **options})
        )


def _random(state, seed=0):
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for key, value in state.items():
        if value.is_floating_point():
            out[key] = torch.rand(value.shape, generator=generator) + 0.1
        else:
            out[key] = torch.full_like(value, 5005 + seed)
    return out


@pytest.fixture(scope='module')
def names():
    """Keys and shapes of the thin ResNet, torchvision's names."""
    torchvision = pytest.importorskip('torchvision')
    state = _build('mmpretrain').state_dict()
    full = torchvision.models.resnet50(weights=None)
    wanted = [k for k in full.state_dict() if not k.startswith('fc.')]
    assert sorted(state) == sorted(wanted)
    return state


def _below(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def _linear(prefix, count=1):
    return {
        f'{prefix}.{2 * i}.{end}': torch.zeros(shape)
        for i in range(count)
        for end, shape in (('weight', (4, 4)), ('bias', (4,)))
    }


def _queue(prefix, *names):
    out = {}
    for name in names:
        out[f'{prefix}{name}'] = torch.zeros(4, 8)
        out[f'{prefix}{name}_ptr'] = torch.zeros(1, dtype=torch.long)
    return out


def _encoders(prefix, q, k, head, heads=2):
    return {
        **_below(f'{prefix}encoder_q.', q),
        **_linear(f'{prefix}encoder_q.{head}', heads),
        **_below(f'{prefix}encoder_k.', k),
        **_linear(f'{prefix}encoder_k.{head}', heads),
    }


def _neck(branch):
    # of DenseCL: one projector for the image, one for the positions
    return {
        **_linear(f'{branch}1.mlp', 2),
        **_linear(f'{branch}1.mlp2', 2),
    }


def _detectron(state):
    """Names of detectron2, by the rules of MoCo's conversion script."""
    out = {}
    for key, value in state.items():
        if 'layer' not in key:
            key = 'stem.' + key
        for i in (4, 3, 2, 1):
            key = key.replace(f'layer{i}', f'res{i + 1}')
        for i in (1, 2, 3):
            key = key.replace(f'bn{i}', f'conv{i}.norm')
        key = key.replace('downsample.0', 'shortcut')
        out[key.replace('downsample.1', 'shortcut.norm')] = value.numpy()
    return out


def _files(q, k):
    """What each project releases: kind, branch and file."""
    fpn = {
        f'module.encoder_q.fpn_lateral{i}.weight': torch.zeros(4, 4, 1, 1)
        for i in (3, 4, 5)
    }
    fpn['module.encoder_q.fpn_output3.bias'] = torch.zeros(4)
    fc = {'fc.weight': torch.zeros(10, 4), 'fc.bias': torch.zeros(10)}
    epoch = {'epoch': 200, 'arch': 'resnet50', 'optimizer': {'state': {}}}
    old = {
        **_below('encoder_q.0.', q),
        **_neck('encoder_q.'),
        **_below('encoder_k.0.', k),
        **_neck('encoder_k.'),
        **_below('backbone.', q),
        **_queue('', 'queue', 'queue2'),
    }
    new = {
        **_below('backbone.', q),
        **_linear('neck.mlp', 2),
        **_below('encoder_k.module.0.', k),
        **_linear('encoder_k.module.1.mlp', 2),
        **_queue('', 'queue'),
    }
    converted = _detectron(q)
    converted.update(
        {
            'stem.fc.0.weight': np.zeros((4, 4), np.float32),
            'backbone.fpn_lateral5.weight': np.zeros((4, 4), np.float32),
        }
    )
    return {
        'moco-v1': (
            'moco',
            'student',
            {
                **epoch,
                'state_dict': {
                    **_below('module.encoder_q.', q),
                    **_below('module.encoder_q.', fc),
                    **_below('module.encoder_k.', k),
                    **_queue('module.', 'queue'),
                },
            },
        ),
        'moco-v2': (
            'moco',
            'student',
            {
                **epoch,
                'state_dict': {
                    **_encoders('module.', q, k, 'fc'),
                    **_queue('module.', 'queue'),
                },
            },
        ),
        'moco-v3': (
            'mocov3',
            'student',
            {
                **epoch,
                'state_dict': {
                    **_below('module.base_encoder.', q),
                    **_linear('module.base_encoder.fc', 2),
                    **_below('module.momentum_encoder.', k),
                    **_linear('module.momentum_encoder.fc', 2),
                    **_linear('module.predictor', 2),
                },
            },
        ),
        'swav': (
            'swav',
            'single',
            {
                **_below('module.', q),
                **_linear('module.projection_head', 2),
                'module.prototypes.weight': torch.zeros(30, 4),
            },
        ),
        'vissl': (
            'vissl',
            'student',
            {
                'phase': 199,
                'classy_state_dict': {
                    'base_model': {
                        'model': {
                            'trunk': _below('_feature_blocks.', q),
                            'heads': _linear('0.clf', 2),
                        }
                    }
                },
            },
        ),
        'densecl': ('backbone', 'single', {'state_dict': dict(q)}),
        'densecl-training': ('densecl', 'student', {'state_dict': old}),
        'mocov2-mmselfsup': ('moco', 'student', {'state_dict': new}),
        'resim': (
            'resim',
            'student',
            {
                **epoch,
                'state_dict': {
                    **_encoders('module.', q, k, 'fc'),
                    **fpn,
                    **_queue('module.', 'queue'),
                },
            },
        ),
        'resim-detectron2': (
            'resim',
            'single',
            {'model': converted, '__author__': 'MOCO'},
        ),
        'moco-detectron2': (
            'backbone',
            'single',
            {'model': _detectron(q), 'matching_heuristics': True},
        ),
        'detco': ('backbone', 'single', {'state_dict': {**q, **fc}}),
        'torchvision': ('backbone', 'single', {**q, **fc}),
        'timm': ('backbone', 'single', {**q, **fc}),
    }


FILES = [
    'moco-v1',
    'moco-v2',
    'moco-v3',
    'swav',
    'vissl',
    'densecl',
    'densecl-training',
    'mocov2-mmselfsup',
    'resim',
    'resim-detectron2',
    'moco-detectron2',
    'detco',
    'torchvision',
    'timm',
]


@pytest.fixture(scope='module')
def files(names):
    made = _files(_random(names), _random(names, 1))
    assert sorted(made) == sorted(FILES)
    return made


def _equal(found, wanted):
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize('name', FILES)
def test_extract_backbone__public_resnets(names, files, name):
    kind, branch, file = files[name]
    source = extract_backbone(file)
    assert (source.kind, source.branch) == (kind, branch)
    assert source.arch == 'resnet'
    state, _ = to_canonical(source.state_dict, source.arch, source.layout)
    _equal(state, _random(names))


@pytest.mark.parametrize(
    'name',
    ['moco-v2', 'moco-v3', 'densecl-training', 'mocov2-mmselfsup', 'resim'],
)
def test_extract_backbone__momentum_encoder_is_the_teacher(names, files, name):
    source = extract_backbone(files[name][2], branch='teacher')
    assert source.branch == 'teacher'
    state, _ = to_canonical(source.state_dict, source.arch, source.layout)
    _equal(state, _random(names, 1))


LISTED = {
    'mocov2-200e_resnet50': 'moco-v2',
    'mocov3-1000e_resnet50': 'moco-v3',
    'swav-200e_resnet50': 'swav',
    'densecl-200e_resnet50': 'densecl',
    'resim-200e_resnet50': 'resim-detectron2',
    'detco-200e_resnet50': 'detco',
    'timm-a1h_resnet101': 'timm',
    'torchvision-in1k_resnet50': 'timm',
}


def test_public_weights__layout_of_the_resnets(files):
    path = ROOT / 'configs' / 'public_weights.yml'
    weights = yaml.safe_load(path.read_text(encoding='utf-8'))
    resnets = {k: v['Layout'] for k, v in weights.items() if '_resnet' in k}
    found = {}
    for key, name in LISTED.items():
        source = extract_backbone(files[name][2])
        found[key] = f'{source.kind}, {source.layout}'
    assert found == resnets


def test_detect_layout__detectron2(names):
    assert detect_layout(_detectron(_random(names))) == (
        'resnet',
        'detectron2',
    )


def _cfg(path):
    return dict(type='mmdense.Pretrained', checkpoint=str(path))


@pytest.mark.parametrize('package', PACKAGES)
@pytest.mark.parametrize(
    'name', ['moco-v2', 'swav', 'vissl', 'resim-detectron2']
)
def test_pretrained__every_weight_and_statistic(
    tmp_path, names, files, package, name
):
    torch.save(files[name][2], tmp_path / 'weights.pth')
    model = _build(package, init_cfg=_cfg(tmp_path / 'weights.pth'))
    model.init_weights()
    _equal(model.state_dict(), _random(names))


@pytest.mark.parametrize('package', PACKAGES)
@pytest.mark.parametrize(
    'options',
    [
        dict(frozen_stages=-1, norm_eval=False),
        dict(frozen_stages=1, norm_eval=True),
        dict(norm_cfg=dict(type='SyncBN'), frozen_stages=-1),
        dict(zero_init_residual=True, frozen_stages=2),
    ],
    ids=lambda options: '-'.join(options),
)
def test_pretrained__recipes(tmp_path, names, package, options):
    state = _random(names)
    torch.save(
        {'state_dict': _below('module.encoder_q.', state)}, tmp_path / 'w'
    )
    model = _build(package, init_cfg=_cfg(tmp_path / 'w'), **options)
    model.init_weights()
    # a model's own initialisers run after its backbone's, and again
    model.init_weights()
    _equal(model.state_dict(), state)
    model.train()
    frozen = options['frozen_stages']
    stages = ['conv1', 'bn1'] + [f'layer{i}' for i in range(1, frozen + 1)]
    for key, value in model.named_parameters():
        wanted = frozen < 0 or key.split('.')[0] not in stages
        assert value.requires_grad == wanted, key
    norms = [m for n, m in model.named_modules() if n == 'layer4.0.bn1']
    norm_eval = options.get('norm_eval', package == 'mmdet')
    assert [m.training for m in norms] == [not norm_eval]


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('options', [dict(type='ResNetV1c')])
def test_pretrained__other_stem_is_refused(tmp_path, names, package, options):
    if package == 'mmdet':
        options = dict(deep_stem=True)
    torch.save(_random(names), tmp_path / 'w')
    model = _build(package, init_cfg=_cfg(tmp_path / 'w'), **options)
    with pytest.raises(CheckpointKeyError, match="type='ResNet'"):
        model.init_weights()
    coverage = load_backbone(model, str(tmp_path / 'w'), min_match=0)
    assert coverage.share > 0.95
    assert 'stem.0.weight' in coverage.missing


def test_load_backbone__without_statistics_of_batches(tmp_path, names):
    state = {
        key: value
        for key, value in _random(names).items()
        if not key.endswith('num_batches_tracked')
    }
    torch.save(_detectron(state), tmp_path / 'w')
    model = _build('mmpretrain')
    coverage = load_backbone(model, str(tmp_path / 'w'))
    assert coverage.share == 1 and not coverage.missing
    assert int(model.bn1.num_batches_tracked) == 0
    assert torch.equal(model.bn1.running_var, state['bn1.running_var'])


@pytest.mark.parametrize('layout', ['mmpretrain', 'mmdet', 'mmseg', 'timm'])
@pytest.mark.parametrize('name', ['moco-v2', 'resim-detectron2'])
def test_export_backbone__and_back(tmp_path, names, files, layout, name):
    torch.save(files[name][2], tmp_path / 'public.pth')
    config = tmp_path / 'thin.py'
    config.write_text(
        "default_scope = 'mmdense'\n"
        "model = dict(backbone=dict(type='mmpretrain.ResNet', depth=50,\n"
        '    base_channels=8, stem_channels=8))\n'
    )
    out = tmp_path / 'exported.pth'
    coverage = export_backbone(
        str(tmp_path / 'public.pth'), str(out), layout, arch=str(config)
    )
    assert coverage.share == 1 and not coverage.unexpected
    exported = load_checkpoint_file(out)
    assert exported['meta']['kind'] == files[name][0]
    wanted = _random(names)
    prefix = 'backbone.' if layout == 'mmdet' else ''
    _equal(exported['state_dict'], _below(prefix, wanted))
    package = layout if layout in PACKAGES else 'mmpretrain'
    model = _build(package, init_cfg=_cfg(out))
    model.init_weights()
    _equal(model.state_dict(), wanted)


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_export_backbone__stock_initialiser_reads_it(
    tmp_path, names, files, package
):
    torch.save(files['moco-v2'][2], tmp_path / 'public.pth')
    config = tmp_path / 'thin.py'
    config.write_text(
        "default_scope = 'mmdense'\n"
        "model = dict(backbone=dict(type='mmpretrain.ResNet', depth=50,\n"
        '    base_channels=8, stem_channels=8))\n'
    )
    out = tmp_path / 'exported.pth'
    export_backbone(
        str(tmp_path / 'public.pth'), str(out), package, arch=str(config)
    )
    model = _build(
        package, init_cfg=dict(type='Pretrained', checkpoint=str(out))
    )
    if package == 'mmdet':
        # stock PretrainedInit needs to be told of the prefix
        model.init_cfg['prefix'] = 'backbone.'
    model.init_weights()
    _equal(model.state_dict(), _random(names))


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_features__equal_to_mmpretrain(tmp_path, names, files, package):
    torch.save(files['moco-v2'][2], tmp_path / 'w')
    outs = []
    for name in ('mmpretrain', package):
        model = _build(
            name, out_indices=(0, 1, 2, 3), init_cfg=_cfg(tmp_path / 'w')
        )
        model.init_weights()
        model.eval()
        torch.manual_seed(0)
        with torch.no_grad():
            outs.append(model(torch.randn(1, 3, 65, 97)))
    for ours, theirs in zip(*outs):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    'config',
    [
        'mask-rcnn_resnet50_resim-200e-pre_8xb2-12e_coco',
        'semantic-fpn_resnet50_swav-200e-pre_8xb4-40k_ade20k-512x512',
    ],
)
def test_config__whole_model_starts_from_the_file(
    tmp_path, names, files, config
):
    pytest.importorskip('mmdet' if 'rcnn' in config else 'mmseg')
    path = ROOT / 'configs/selfpatch/benchmarks' / f'{config}.py'
    cfg = tiny_config(Config.fromfile(str(path)))
    name = 'resim-detectron2' if 'resim' in config else 'swav'
    torch.save(files[name][2], tmp_path / 'w')
    cfg.model.backbone.init_cfg = _cfg(tmp_path / 'w')
    model = build_model(cfg)
    _equal(model.backbone.state_dict(), _random(names))
    heads = [k for k in model.state_dict() if not k.startswith('backbone.')]
    assert len(heads) > 10
