import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdense.registry import MODELS
from mmdense.utils.checkpoint_keys import (
    CheckpointKeyError,
    official_file,
    official_state,
    own_state,
    read_training,
)
from mmdense.utils.checkpoint_keys.pretraining_names import shift_masks

GOLDEN = Path(__file__).parents[1] / 'data/golden'
KEYS = json.loads((GOLDEN / 'checkpoint_keys.json').read_text())
# schedules set these at the first step; no official file has them
SCHEDULED = ('teacher.momentum', 'teacher_temp')


def _blank(shapes):
    return {k: torch.empty(tuple(s), device='meta') for k, s in shapes.items()}


def _shapes(state):
    return {k: tuple(v.shape) for k, v in state.items()}


def _moby_vit():
    """Keys of MoBY with DeiT-S, of which there is no list."""
    out = {
        k: s for k, s in KEYS['moby']['model'].items() if 'encoder' not in k
    }
    for key, shape in KEYS['dino']['backbone_only'].items():
        out[f'encoder.{key}'] = out[f'encoder_k.{key}'] = shape
    for name in ('projector', 'projector_k'):
        out[f'{name}.linear_hidden.1.weight'] = [4096, 384]
    return out


def _lists(name):
    """The entries of an official file, by top-level key."""
    if name == 'moby_vit':
        return {'model': _moby_vit()}
    if name == 'moby':
        return {'model': KEYS['moby']['model']}
    return {k: KEYS[name][k] for k in ('student', 'teacher', 'dino_loss')}


def _vit(**options):
    return dict(
        type='mmdense.VisionTransformer',
        arch='deit-small',
        out_type='tokens',
        **options,
    )


def _head(outputs):
    return dict(type='mmdense.DINOHead', in_channels=384, out_channels=outputs)


def _mlp(width):
    return dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=width,
        hid_channels=4096,
        out_channels=256,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    )


def _config(name):
    if name.startswith('moby'):
        swin = dict(type='mmdense.SwinTransformer', arch='tiny')
        return dict(
            type='mmdense.MoBY',
            backbone=swin if name == 'moby' else _vit(),
            neck=_mlp(768 if name == 'moby' else 384),
            predictor=_mlp(256),
            loss=dict(type='mmdense.MoBYLoss'),
        )
    bare = name == 'selfpatch'
    options = dict(with_cls_token=False, final_norm=False) if bare else {}
    dino = dict(
        type='mmdense.DINO',
        backbone=_vit(**options),
        neck=_head(65536),
        loss=dict(type='mmdense.DINOLoss', out_channels=65536),
    )
    if name == 'dino':
        return dino
    return dict(
        type='mmdense.SelfPatch',
        method=dino,
        aggregation=dict(
            type='mmdense.ClassAttentionPooling', embed_dims=384, num_heads=6
        ),
        patch_head=_head(4096),
        patch_loss=dict(type='mmdense.PatchDistillationLoss'),
    )


def _real_model(name):
    if name == 'moby':  # its stock code reads a tensor, so not on meta
        return MODELS.build(_config(name))
    with torch.device('meta'):
        return MODELS.build(_config(name))


def _filled(lists):
    """Small random tensors instead of the real sizes."""
    torch.manual_seed(0)
    out = {}
    for part, shapes in lists.items():
        out[part] = {}
        for key, shape in shapes.items():
            if key.endswith('num_batches_tracked'):
                out[part][key] = torch.randint(9, shape)
            else:
                small = [min(n, 4) for n in shape]
                out[part][key] = torch.randn(small)
    return out


@pytest.mark.parametrize('name', ['dino', 'selfpatch', 'moby', 'moby_vit'])
def test_key_lists__are_those_of_the_methods(name):
    lists = _lists(name)
    state = read_training({k: _blank(s) for k, s in lists.items()})
    assert state.side == 'official' and state.method == name.split('_')[0]
    assert not state.unexpected and not state.notes
    assert all(key.endswith('attn_mask') for key in state.dropped)
    own = _shapes(own_state(state))
    wanted = {
        key: shape
        for key, shape in _shapes(_real_model(name).state_dict()).items()
        if not key.endswith(SCHEDULED)
    }
    assert own == wanted

    again = read_training({'state_dict': own_state(state)})
    assert (again.side, again.method) == ('mmdense', state.method)
    file = official_file(official_state(again), again)
    assert {part: _shapes(entries) for part, entries in file.items()} == {
        part: {key: tuple(shape) for key, shape in shapes.items()}
        for part, shapes in lists.items()
    }


@pytest.mark.parametrize('name', ['dino', 'selfpatch', 'moby_vit'])
def test_round_trip__every_value_of_the_lists(name):
    file = _filled(_lists(name))
    state = read_training(file)
    back = read_training({'state_dict': own_state(state)})
    again = official_file(official_state(back), back)
    assert set(again) == set(file)
    for part in file:
        assert set(again[part]) == set(file[part])
        for key, value in file[part].items():
            got = again[part][key]
            assert torch.equal(got.reshape(value.shape), value), key


def _golden(name):
    with np.load(GOLDEN / f'{name}.npz') as stored:
        return {k: torch.from_numpy(stored[k]) for k in stored.files}


def _below(arrays, prefix):
    return {
        k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)
    }


def _golden_file(name):
    arrays = _golden(name)
    if name == 'moby':
        return {'model': _below(arrays, 'sd/'), 'epoch': 2}
    student = _below(arrays, 'sd_student/')
    loss = _below(arrays, 'in/')
    return {
        'student': {f'module.{k}': v for k, v in student.items()},
        'teacher': _below(arrays, 'sd_teacher/'),
        'dino_loss': {k: v for k, v in loss.items() if 'center' in k},
        'epoch': 3,
    }


@pytest.mark.parametrize('name', ['dino_step', 'selfpatch_step', 'moby'])
def test_round_trip__golden_weights_bit_for_bit(name):
    file = _golden_file(name)
    state = read_training(file)
    assert state.epoch == 3
    own = {
        'state_dict': own_state(state),
        'meta': {'epoch': state.epoch, 'img_size': state.img_size},
    }
    back = read_training(own)
    again = official_file(official_state(back), back)
    assert again.pop('epoch') == file.pop('epoch')
    for part in file:
        assert set(again[part]) == set(file[part])
        for key, value in file[part].items():
            assert again[part][key].shape == value.shape
            assert torch.equal(again[part][key], value), key


def _plain_masks(side, window):
    """Regions of a shifted map, patch by patch."""

    def zone(i):
        if i < side - window:
            return 0
        return 1 if i < side - window // 2 else 2

    count = side // window
    masks = torch.zeros(count**2, window**2, window**2)
    for index in range(count**2):
        top, left = index // count * window, index % count * window
        places = [
            (zone(top + p // window), zone(left + p % window))
            for p in range(window**2)
        ]
        for i, first in enumerate(places):
            for j, second in enumerate(places):
                masks[index, i, j] = 0.0 if first == second else -100.0
    return masks


def test_shift_masks__plain_loop():
    table = 'layers.{}.blocks.{}.attn.relative_position_bias_table'
    state = {
        'patch_embed.proj.weight': torch.zeros(8, 3, 4, 4),
        **{
            table.format(i, j): torch.zeros(25, 1)
            for i in range(3)
            for j in range(2)
        },
    }
    masks = shift_masks(state, 48)
    assert list(masks) == [
        'layers.0.blocks.1.attn_mask',
        'layers.1.blocks.1.attn_mask',
    ]  # the last map is no larger than a window
    for stage, side in ((0, 12), (1, 6)):
        got = masks[f'layers.{stage}.blocks.1.attn_mask']
        assert torch.equal(got, _plain_masks(side, 3))
    assert not shift_masks(state, 40)  # 10 patches: no whole windows


def _selfpatch_layouts():
    full = _golden_file('selfpatch_step')
    teacher = full['teacher']
    backbone = _below(teacher, 'backbone.')
    return {
        'teacher in a file': {'teacher': teacher, 'epoch': 1},
        'student in a file': {'student': full['student']},
        'teacher': teacher,
        'module.': {f'module.{k}': v for k, v in teacher.items()},
        'state_dict': {'state_dict': teacher},
        'backbone': backbone,
        'backbone.': {f'backbone.{k}': v for k, v in backbone.items()},
        'module.backbone.': {
            f'module.backbone.{k}': v for k, v in backbone.items()
        },
        'bare teacher in a file': {'teacher': backbone},
        'without backbone.': {
            k.replace('backbone.', ''): v for k, v in teacher.items()
        },
    }


@pytest.mark.parametrize('layout', list(_selfpatch_layouts()))
def test_read_training__layouts_of_selfpatch(layout):
    state = read_training(_selfpatch_layouts()[layout])
    assert (state.method, state.side) == ('selfpatch', 'official')
    assert not state.unexpected and not state.dropped
    assert any('one network' in note for note in state.notes)
    heads = {'pool', 'neck', 'patch_head'}
    alone = 'bare' in layout or layout in (
        *('backbone', 'backbone.', 'module.backbone.'),
    )
    names = {'backbone'} if alone else {'backbone', *heads}
    assert any('--method' in note for note in state.notes) == alone
    branch = 'student' if 'student' in layout else 'teacher'
    whole = read_training(_golden_file('selfpatch_step'))
    assert {name for _, name in state.parts} == names
    for of, name in state.parts:
        wanted = whole.parts[branch, name]
        assert set(state.parts[of, name]) == set(wanted)
        for key, value in wanted.items():
            assert torch.equal(state.parts[of, name][key], value)


@pytest.mark.parametrize('prefix', ['', 'module.', 'module.encoder.'])
@pytest.mark.parametrize('arch', ['swin', 'vit'])
def test_read_training__backbone_for_moby(prefix, arch):
    if arch == 'vit':
        backbone = _below(_golden_file('dino_step')['teacher'], 'backbone.')
    else:
        backbone = _below(_golden_file('moby')['model'], 'encoder.')
    state = read_training(
        {'model': {prefix + k: v for k, v in backbone.items()}}, 'moby'
    )
    assert (state.method, state.arch) == ('moby', arch)
    assert set(state.parts) == {
        ('student', 'backbone'),
        ('teacher', 'backbone'),
    }
    for key, value in state.parts['teacher', 'backbone'].items():
        assert torch.equal(value, state.parts['student', 'backbone'][key])
    assert not state.unexpected


def test_read_training__a_part_of_one_branch():
    file = _golden_file('selfpatch_step')
    file['teacher'] = {
        k: v for k, v in file['teacher'].items() if 'c_head' not in k
    }
    state = read_training(file)
    assert any('no teacher neck' in n and 'student' in n for n in state.notes)
    for key, value in state.parts['teacher', 'neck'].items():
        assert torch.equal(value, state.parts['student', 'neck'][key])
    name = ('teacher', 'pool')
    assert not torch.equal(
        state.parts[name]['cls_token'],
        state.parts['student', 'pool']['cls_token'],
    )


def test_read_training__what_is_left_out_and_unexpected():
    file = _golden_file('dino_step')
    file['optimizer'] = {'state': {0: {'step': 3}}}
    file['args'] = None
    file['teacher']['head.extra.weight'] = torch.zeros(3)
    file['student']['module.backbone.head.weight'] = torch.zeros(3)
    state = read_training(file)
    assert state.left_out == ['args', 'optimizer']
    assert not state.unexpected
    assert list(state.dropped) == ['student.backbone.head.weight']
    assert 'extra.weight' in state.parts['teacher', 'neck']

    runner = own_state(state)
    runner['teacher.momentum'] = torch.tensor(0.9)
    runner['loss_module.teacher_temp'] = torch.tensor(0.1)
    runner['other.weight'] = torch.zeros(1)
    state = read_training(
        {'state_dict': runner, 'optimizer': {}, 'meta': {'epoch': 7}}
    )
    assert state.epoch == 7 and state.left_out == ['optimizer']
    assert list(state.unexpected) == ['other.weight']
    assert list(state.dropped) == [
        'teacher.momentum',
        'loss_module.teacher_temp',
    ]


def test_read_training__norms_of_inner_stages_are_dropped():
    own = own_state(read_training(_golden_file('moby')))
    own['backbone.norm0.weight'] = torch.zeros(12)
    state = read_training({'state_dict': own})
    assert list(state.dropped) == ['backbone.norm0.weight']
    assert 'encoder.norm.weight' in official_state(state, 32)


def test_official_file__teacher_with_batch_norm_is_wrapped():
    file = _golden_file('dino_step')
    norm = {'head.mlp.1.running_mean': torch.zeros(4)}
    file['teacher'] = {f'module.{k}': v for k, v in file['teacher'].items()}
    file['teacher'].update({f'module.{k}': v for k, v in norm.items()})
    file['student'].update({f'module.{k}': v for k, v in norm.items()})
    state = read_training(file)
    again = official_file(official_state(state), state)
    assert set(again['teacher']) == set(file['teacher'])


def _own(name):
    return own_state(read_training(_golden_file(name)))


@pytest.mark.parametrize(
    'make, options, match',
    [
        (lambda: {'a': torch.zeros(1)}, {}, r"First parts.*\['a'\]"),
        (lambda: {'epoch': 3}, {}, 'no tensors'),
        (
            lambda: {
                'state_dict': {
                    'module.base_encoder.blocks.0.attn.qkv.weight': (
                        torch.zeros(1)
                    )
                }
            },
            {},
            'MoCo v3',
        ),
        (
            lambda: _golden_file('dino_step'),
            {'method': 'moby'},
            "'moby'.*official dino",
        ),
        (
            lambda: _golden_file('dino_step'),
            {'side': 'mmdense'},
            "'mmdense'.*official dino",
        ),
        (lambda: _golden_file('dino_step'), {'method': 'byol'}, 'byol'),
        (
            lambda: {
                'state_dict': {
                    'backbone.layers.0.attn.qkv.weight': torch.zeros(1),
                    'decode_head.conv.weight': torch.zeros(1),
                }
            },
            {},
            "First parts.*'decode_head'",
        ),
        (
            lambda: {
                'state_dict': {
                    **{f'method.{k}': v for k, v in _own('moby').items()},
                    'method.pool.cls_token': torch.zeros(1),
                }
            },
            {},
            'SelfPatch on MoBY',
        ),
        (
            lambda: {
                'state_dict': {
                    **_own('dino_step'),
                    'pool.cls_token': torch.zeros(1),
                }
            },
            {},
            'aggregation head',
        ),
        (
            lambda: {
                'teacher': {'head.last_layer.weight_v': torch.zeros(2, 2)}
            },
            {},
            'no backbone',
        ),
        (
            lambda: {
                'state_dict': {
                    **_own('dino_step'),
                    'backbone.blocks.0.attn.qkv.weight': torch.zeros(1),
                    'backbone.layers.0.attn.qkv.weight': None,
                    'backbone.layers.1.attn.qkv.weight': None,
                }
            },
            {},
            'names of timm',
        ),
    ],
)
def test_read_training__refusals(make, options, match):
    with pytest.raises(CheckpointKeyError, match=match):
        read_training(make(), **options)
