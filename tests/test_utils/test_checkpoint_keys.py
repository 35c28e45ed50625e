import json
from pathlib import Path

import pytest
import torch

from mmdense.utils.checkpoint_keys import (
    CheckpointKeyError,
    CoverageError,
    compare,
    detect_layout,
    extract_backbone,
    from_canonical,
    to_canonical,
)
from mmdense.utils.checkpoint_keys.layouts import (
    merging_to_unfold,
    unfold_to_merging,
)

GOLDEN = Path(__file__).parents[1] / 'data/golden/checkpoint_keys.json'
KEYS = json.loads(GOLDEN.read_text())
MAPS = KEYS['mmpretrain_map']


def _blank(shapes):
    return {k: torch.empty(tuple(s), device='meta') for k, s in shapes.items()}


def _full(name):
    return {
        'student': _blank(KEYS[name]['student']),
        'teacher': _blank(KEYS[name]['teacher']),
        'epoch': 3,
        'args': None,
    }


def _moco(arch):
    return {'state_dict': _blank(KEYS['mocov3'][arch]), 'arch': arch}


FILES = {
    'dino_full': (lambda: _full('dino'), 'dino', 'teacher', 'dino_vit_small'),
    'dino': (
        lambda: _blank(KEYS['dino']['backbone_only']),
        'backbone',
        'single',
        'dino_vit_small',
    ),
    'dino_wrapped': (
        lambda: {
            f'_orig_mod.module.{k}': v
            for k, v in _blank(KEYS['dino']['backbone_only']).items()
        },
        'backbone',
        'single',
        'dino_vit_small',
    ),
    'selfpatch_full': (
        lambda: _full('selfpatch'),
        'selfpatch',
        'teacher',
        'selfpatch_vit_small',
    ),
    'selfpatch_teacher': (
        lambda: _blank(KEYS['selfpatch']['teacher']),
        'selfpatch',
        'student',
        'selfpatch_vit_small',
    ),
    'mocov3_vit': (
        lambda: _moco('vit_small'),
        'mocov3',
        'student',
        'mocov3_vit_small',
    ),
    'mocov3_resnet': (
        lambda: _moco('resnet50'),
        'mocov3',
        'student',
        'resnet50',
    ),
    'semcl': (
        lambda: {
            'model': _blank(KEYS['mocov3']['resnet50']),
            'moco_moemtum': 0.99,
        },
        'semcl',
        'student',
        'resnet50',
    ),
    'semcl_backbone': (
        lambda: {'state_dict': _blank(MAPS['resnet50']['mm_shapes'])},
        'backbone',
        'single',
        'resnet50',
    ),
    'moby': (
        lambda: {'model': _blank(KEYS['moby']['model'])},
        'moby',
        'student',
        'swin_tiny',
    ),
    'swin': (
        lambda: {'model': _blank(KEYS['swin_t']['model'])},
        'backbone',
        'single',
        'swin_tiny',
    ),
    'runner': (
        lambda: {
            'meta': {},
            'message_hub': {},
            'state_dict': {
                f'backbone.{k}': v
                for k, v in _blank(MAPS['dino_vit_small']['mm_shapes']).items()
            },
        },
        'mmengine',
        'student',
        'dino_vit_small',
    ),
}


@pytest.mark.parametrize('name', FILES)
def test_extract_backbone__official_files(name):
    make, kind, branch, wanted = FILES[name]
    source = extract_backbone(make())
    assert (source.kind, source.branch) == (kind, branch)
    state, dropped = to_canonical(
        source.state_dict, source.arch, source.layout
    )
    shapes = {k: tuple(s) for k, s in MAPS[wanted]['mm_shapes'].items()}
    assert {k: tuple(v.shape) for k, v in state.items()} == shapes
    assert all('head' in k or 'fc' in k or 'mask' in k for k in dropped)
    assert kind in source.describe()


@pytest.mark.parametrize('name', MAPS)
def test_to_canonical__names_of_the_map(name):
    mapping = MAPS[name]['map']
    sizes = {key: 4 * i + 4 for i, key in enumerate(mapping)}
    tagged = _blank(
        {k: (1, n) if 'reduction' in k else (n,) for k, n in sizes.items()}
    )
    state, dropped = to_canonical(tagged, *detect_layout(tagged))
    wanted = {mm: sizes[k] for k, mm in mapping.items() if mm}
    assert {k: v.shape[-1] for k, v in state.items()} == wanted
    assert set(dropped) == {k for k, mm in mapping.items() if mm is None}


@pytest.mark.parametrize(
    'name, layout',
    [
        ('dino_vit_small', 'timm'),
        ('dino_vit_small', 'mmseg'),
        ('selfpatch_vit_small', 'timm'),
        ('swin_tiny', 'timm'),
        ('swin_tiny', 'mmseg'),
        ('resnet50', 'timm'),
    ],
)
def test_from_canonical__round_trip(name, layout):
    torch.manual_seed(0)
    shapes = {
        k: tuple(min(n, 8) for n in s)
        for k, s in MAPS[name]['mm_shapes'].items()
    }
    state = {k: torch.randn(s) for k, s in shapes.items()}
    arch, own = detect_layout(state)
    assert own == 'mmpretrain'
    there = from_canonical(state, arch, layout)
    back, dropped = to_canonical(there, *detect_layout(there))
    assert not dropped and set(back) == set(state)
    assert all(torch.equal(back[k], state[k]) for k in state)


@pytest.mark.parametrize('name', ['dino_vit_small', 'swin_tiny'])
def test_from_canonical__timm_names_are_official(name):
    official = [k for k, mm in MAPS[name]['map'].items() if mm]
    state = _blank(MAPS[name]['mm_shapes'])
    there = from_canonical(state, *detect_layout(state)[:1], 'timm')
    assert set(there) == set(official)


def test_from_canonical__mmdet_prefix_and_refusals():
    state = _blank(MAPS['selfpatch_vit_small']['mm_shapes'])
    there = from_canonical(state, 'vit', 'mmdet')
    assert all(k.startswith('backbone.') for k in there)
    assert extract_backbone({'state_dict': there}).prefix == 'backbone.'
    with pytest.raises(CheckpointKeyError, match='class token'):
        from_canonical(state, 'vit', 'mmseg')
    with pytest.raises(CheckpointKeyError, match='hf'):
        from_canonical(state, 'vit', 'hf')


def test_merging_to_unfold__same_function():
    """Official patch merging against nn.Unfold with converted weights."""
    torch.manual_seed(0)
    channels = 3
    x = torch.randn(2, channels, 6, 8)
    weight, norm = torch.randn(2 * channels, 4 * channels), torch.randn(12)
    parts = [x[:, :, r::2, c::2] for c in (0, 1) for r in (0, 1)]
    merged = torch.cat(parts, dim=1).permute(0, 2, 3, 1)
    wanted = (merged * norm) @ weight.t()
    key = 'stages.0.downsample.'
    new_norm = merging_to_unfold(key + 'norm.weight', norm)
    new_weight = merging_to_unfold(key + 'reduction.weight', weight)
    unfolded = torch.nn.functional.unfold(x, 2, stride=2).transpose(1, 2)
    got = (unfolded * new_norm) @ new_weight.t()
    torch.testing.assert_close(got.view(wanted.shape), wanted)
    for name, value in (('norm.bias', norm), ('reduction.weight', weight)):
        back = unfold_to_merging(
            key + name, merging_to_unfold(key + name, value)
        )
        assert torch.equal(back, value)


def test_to_canonical__new_timm_swin_downsample():
    state = _blank(KEYS['swin_t']['model'])
    new = {}
    for key, value in state.items():
        part = key.split('.')
        if len(part) > 2 and part[2] == 'downsample':
            part[1] = str(int(part[1]) + 1)
        new['.'.join(part)] = value
    assert set(to_canonical(new, 'swin', 'timm')[0]) == set(
        to_canonical(state, 'swin', 'timm')[0]
    )


@pytest.mark.parametrize('branch', ['student', 'teacher'])
@pytest.mark.parametrize(
    'student, teacher',
    [
        ('backbone.', 'teacher.backbone.'),
        ('backbone.', 'momentum_encoder.module.0.'),
        ('backbone.', 'target_generator.module.0.'),
        ('module.base_encoder.', 'module.momentum_encoder.'),
        ('encoder.', 'encoder_k.'),
        ('student.module.backbone.', 'teacher.module.backbone.'),
    ],
)
def test_extract_backbone__branches(branch, student, teacher):
    names = ['layers.0.attn.qkv.weight', 'layers.0.ln1.weight', 'cls_token']
    state = {student + n: torch.zeros(1) for n in names}
    state.update({teacher + n: torch.ones(1) for n in names})
    state['neck.mlp.weight'] = torch.zeros(1)
    source = extract_backbone({'state_dict': state}, branch=branch)
    assert source.branch == branch and set(source.state_dict) == set(names)
    value = 0.0 if branch == 'student' else 1.0
    assert all(v.item() == value for v in source.state_dict.values())


def test_extract_backbone__dino_runner_defaults_to_the_teacher():
    name = 'layers.0.attn.qkv.weight'
    state = {
        f'backbone.{name}': torch.zeros(1),
        f'teacher.backbone.{name}': torch.ones(1),
        'teacher.head.last_layer.weight_v': torch.ones(1),
    }
    source = extract_backbone({'state_dict': state})
    assert source.branch == 'teacher' and source.state_dict[name].item() == 1


def test_extract_backbone__ema_hook():
    name = 'layers.0.attn.qkv.weight'
    file = {
        'state_dict': {f'backbone.{name}': torch.zeros(1)},
        'ema_state_dict': {
            f'module.backbone.{name}': torch.ones(1),
            'steps': torch.tensor(3),
        },
    }
    assert extract_backbone(file).state_dict[name].item() == 0
    assert extract_backbone(file, 'teacher').state_dict[name].item() == 1


def test_extract_backbone__decoders_are_no_backbones():
    file = {
        'state_dict': {
            'backbone.layers.0.attn.qkv.weight': torch.zeros(1),
            'decode_head.layers.0.attn.attn.in_proj_weight': torch.ones(1),
            'neck.blocks.0.attn.qkv.weight': torch.ones(1),
        }
    }
    assert extract_backbone(file).prefix == 'backbone.'


def test_extract_backbone__prefix():
    state = {
        'a.b.layers.0.attn.qkv.weight': torch.zeros(1),
        'layers.0.attn.qkv.weight': torch.ones(1),
    }
    source = extract_backbone(state, prefix='a.b')
    assert list(source.state_dict) == ['layers.0.attn.qkv.weight']
    assert source.state_dict['layers.0.attn.qkv.weight'].item() == 0
    with pytest.raises(CheckpointKeyError, match=r"'c\.'.*\['a', 'layers'\]"):
        extract_backbone(state, prefix='c')


@pytest.mark.parametrize(
    'file, match',
    [
        ([1, 2], 'list'),
        ({'epoch': 3, 'optimizer': {}}, 'epoch'),
    ],
)
def test_extract_backbone__refusals(file, match):
    with pytest.raises(CheckpointKeyError, match=match):
        extract_backbone(file)


def test_extract_backbone__unknown_branch():
    with pytest.raises(CheckpointKeyError, match='no student'):
        extract_backbone(
            {'state_dict': {'teacher.blocks.0.attn.qkv.w': torch.zeros(1)}},
            branch='student',
        )
    with pytest.raises(CheckpointKeyError, match='ema'):
        extract_backbone(_full('dino'), branch='ema')


def test_extract_backbone__dpt_vit():
    source = extract_backbone(_blank(KEYS['dpt']['dpt_base_depth']))
    assert (source.kind, source.prefix) == ('dpt', 'pretrained.model.')
    state, _ = to_canonical(source.state_dict, source.arch, source.layout)
    assert 'layers.11.ffn.layers.1.weight' in state


def test_compare__counts_and_share():
    state = {
        'a': torch.zeros(2, 3),
        'b': torch.zeros(5),
        'd': torch.zeros(1),
        'x.relative_position_index': torch.zeros(9),
    }
    expected = {
        'a': (2, 3),
        'b': (4,),
        'c': (10,),
        'bn.num_batches_tracked': (),
    }
    coverage = compare(state, expected, {'a': 'from 3x3'}, ['head.weight'])
    assert coverage.matched == ['a'] and coverage.missing == ['c']
    assert coverage.mismatched == {'b': '(5, wanted 4)'}
    assert coverage.unexpected == ['d']
    assert coverage.dropped == ['head.weight']
    assert coverage.share == 6 / 20
    table = coverage.table()
    for text in ('a from 3x3', '30.0%', 'head.weight', '(5, wanted 4)'):
        assert text in table
    coverage.check(0.3)
    with pytest.raises(CoverageError, match='30.0%.*50%') as info:
        coverage.check(0.5)
    assert 'missing' in str(info.value)
