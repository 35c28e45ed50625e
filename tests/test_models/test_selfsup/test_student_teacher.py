"""Teacher, checkpoints, crops and guards that the methods share."""

import pickle
from copy import deepcopy

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

import mmdense  # noqa: F401
from mmdense.models.selfsup import student_teacher
from mmdense.registry import MODELS
from mmdense.utils.errors import UserError

ARCH = dict(embed_dims=12, num_layers=4, num_heads=2, feedforward_channels=24)
VIT = dict(
    type='mmdense.VisionTransformer',
    arch=ARCH,
    img_size=32,
    patch_size=8,
    out_type='tokens',
    drop_path_rate=0.3,
)
SWIN = dict(
    type='mmdense.SwinTransformer',
    arch=dict(embed_dims=6, depths=[2, 2], num_heads=[1, 2]),
    img_size=32,
    window_size=4,
    drop_path_rate=0.3,
)
POOL = dict(type='mmdense.ClassAttentionPooling', embed_dims=12, num_heads=2)


def _head(width):
    return dict(
        type='mmdense.DINOHead',
        in_channels=12,
        out_channels=width,
        hid_channels=16,
        bottleneck_channels=8,
    )


def _projector(inputs):
    return dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=inputs,
        hid_channels=16,
        out_channels=8,
        with_avg_pool=False,
        with_last_bn=False,
        norm_cfg=dict(type='BN1d'),
    )


def _config(method='DINO', backbone=VIT, **kwargs):
    if method == 'DINO':
        return dict(
            type='mmdense.DINO',
            backbone=backbone,
            neck=_head(20),
            loss=dict(type='mmdense.DINOLoss', out_channels=20),
            **kwargs,
        )
    if method == 'MoBY':
        return dict(
            type='mmdense.MoBY',
            backbone=backbone,
            neck=_projector(12),
            predictor=_projector(8),
            loss=dict(type='mmdense.MoBYLoss', channels=8, queue_size=12),
            **kwargs,
        )
    bare = backbone
    if backbone['type'] == 'mmdense.VisionTransformer':
        bare = {**backbone, 'with_cls_token': False, 'final_norm': False}
    return dict(
        type='mmdense.SelfPatch',
        method=_config('DINO', bare, **kwargs),
        aggregation=POOL,
        patch_head=_head(10),
        patch_loss=dict(type='mmdense.PatchDistillationLoss', out_channels=10),
    )


def _build(method='DINO', backbone=VIT, seed=0, **kwargs):
    init_default_scope('mmdense')
    torch.manual_seed(seed)
    return MODELS.build(_config(method, backbone, **kwargs))


def _crops(batch=3, sizes=(32, 32, 16, 16), seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, s, s, generator=g) for s in sizes]


def _inner(model):
    return getattr(model, 'method', model)


def _unlike(model):
    """Keys of the teacher that differ from the student."""
    state = _inner(model).state_dict()
    return [
        key
        for key, value in state.items()
        if key.startswith('teacher.')
        and key != 'teacher.momentum'
        and not torch.equal(value, state[key[len('teacher.') :]])
    ]


def _shift_teacher(model):
    """Make teacher and student two networks."""
    with torch.no_grad():
        for parameter in _inner(model).teacher.parameters():
            parameter.add_(0.5)


METHODS = ('DINO', 'MoBY', 'SelfPatch')


# start ----------------------------------------------------------------------


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('backbone', [VIT, SWIN])
def test_init_weights__teacher_equals_student(method, backbone):
    model = _build(method, {**backbone, 'init_cfg': None})
    # what the start draws is not what the constructor drew
    _shift_teacher(model)
    model.init_weights()
    assert _unlike(model) == []
    own = dict(_inner(model).teacher.named_parameters())
    assert len(own) > 20
    assert not any(p.requires_grad for p in own.values())


@pytest.mark.parametrize('kind', ['mmdense.Pretrained', 'Pretrained'])
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('backbone', [VIT, SWIN])
def test_init_weights__backbone_from_a_file(method, backbone, kind, tmp_path):
    source = _inner(_build(method, backbone, seed=5)).backbone
    path = tmp_path / 'backbone.pth'
    torch.save({'state_dict': source.state_dict()}, path)
    init_cfg = dict(type=kind, checkpoint=str(path))
    model = _build(method, {**backbone, 'init_cfg': init_cfg})
    model.init_weights()
    for key, value in source.state_dict().items():
        assert torch.equal(_inner(model).backbone.state_dict()[key], value)
    assert _unlike(model) == []


@pytest.mark.parametrize('method', METHODS)
def test_init_weights__a_second_call_leaves_the_teacher(method):
    model = _build(method)
    model.init_weights()
    _shift_teacher(model)
    model.init_weights()
    assert _unlike(model)


@pytest.mark.parametrize('kind', ['mmdense.Pretrained', 'Pretrained'])
@pytest.mark.parametrize('method', METHODS)
def test_init_weights__init_cfg_of_the_whole_model(method, kind, tmp_path):
    """It comes after the parts are initialised, and before the teacher."""
    source = _build(method, seed=5)
    path = tmp_path / 'model.pth'
    torch.save({'state_dict': source.state_dict()}, path)
    config = _config(method)
    config['init_cfg'] = dict(type=kind, checkpoint=str(path))
    init_default_scope('mmdense')
    model = MODELS.build(config)
    model.init_weights()
    for key, value in _inner(source).backbone.state_dict().items():
        assert torch.equal(_inner(model).backbone.state_dict()[key], value)
    assert _unlike(model) == []


# checkpoints ----------------------------------------------------------------


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('backbone', [VIT, SWIN])
@pytest.mark.parametrize('how', ['torch', 'mmengine'])
def test_load__file_without_teacher_fills_it(method, backbone, how, tmp_path):
    source = _build(method, backbone, seed=5)
    state = {
        k: v for k, v in source.state_dict().items() if 'teacher.' not in k
    }
    given = set(state)
    model = _build(method, backbone)
    if how == 'torch':
        model.load_state_dict(state)
        assert set(state) == given
    else:
        path = tmp_path / 'model.pth'
        torch.save({'state_dict': state}, path)
        load_checkpoint(model, str(path), 'cpu', strict=True)
    assert _unlike(model) == []
    for key in given:
        assert torch.equal(model.state_dict()[key], state[key])


@pytest.mark.parametrize('method', METHODS)
def test_load__teacher_of_the_file_stays(method):
    source = _build(method, seed=5)
    _shift_teacher(source)
    source.before_step(0.4), source.after_step(0.4)
    model = _build(method)
    model.load_state_dict(source.state_dict())
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert _unlike(model)


def test_load__part_that_the_teacher_of_the_file_lacks():
    """A run with a class token goes on with a pool of its own."""
    source = _build(pool=POOL, seed=5)
    _shift_teacher(source)
    state = {
        k: v
        for k, v in source.state_dict().items()
        if not k.startswith('teacher.pool.')
    }
    model = _build(pool=POOL)
    model.load_state_dict(state)
    assert {key.split('.')[1] for key in _unlike(model)} == {
        'backbone',
        'neck',
    }


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize(
    'change,told',
    [
        (dict(arch={**ARCH, 'feedforward_channels': 36}), r'\(36, 12\)'),
        (dict(arch={**ARCH, 'num_layers': 3}), 'layers.3.*not in the file'),
        (dict(arch={**ARCH, 'num_layers': 5}), 'layers.4.*not here'),
        (dict(patch_size=16), r'\(12, 3, 16, 16\) in the file'),
    ],
)
def test_load__teacher_of_another_architecture(method, change, told):
    source = _build(method, {**VIT, **change})
    model = _build(method)
    with pytest.raises(UserError, match=told) as caught:
        model.load_state_dict(source.state_dict(), strict=False)
    assert 'of another architecture: backbone.' in str(caught.value)
    assert 'export_backbone.py' in str(caught.value)


@pytest.mark.parametrize('method', METHODS)
def test_load__swin_teacher_into_vit(method):
    source, model = _build(method, SWIN), _build(method)
    with pytest.raises(UserError, match='of another architecture'):
        model.load_state_dict(source.state_dict(), strict=False)


@pytest.mark.parametrize(
    'backbone,change', [(VIT, dict(img_size=64)), (SWIN, dict(window_size=2))]
)
def test_load__other_size_is_no_other_architecture(backbone, change):
    """Position embeddings and tables are resized, on both sides."""
    source = _build('SelfPatch', {**backbone, **change}, seed=5)
    model = _build('SelfPatch', backbone)
    model.load_state_dict(source.state_dict())
    assert _unlike(model) == []


def test_copy_and_pickle__the_load_hook_is_the_copys():
    model = _build('SelfPatch')
    small = {
        k: v for k, v in model.state_dict().items() if 'teacher.' not in k
    }
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        _shift_teacher(copy)
        assert _unlike(copy) and not _unlike(model)
        copy.load_state_dict(small)
        assert _unlike(copy) == []
        assert not any(
            p.requires_grad for p in copy.method.teacher.parameters()
        )


def test_state_dict__names_of_the_parts():
    parts = {k.split('.')[0] for k in _build(pool=POOL).state_dict()}
    assert parts == {'backbone', 'pool', 'neck', 'teacher', 'loss_module'}
    names = {
        '.'.join(k.split('.')[:3])
        for k in _build('SelfPatch').state_dict()
        if k.startswith('method.teacher')
    }
    assert names == {
        f'method.teacher.{name}'
        for name in ('backbone', 'pool', 'neck', 'patch_head', 'momentum')
    }


# steps ----------------------------------------------------------------------


def _inputs(method, batch=3):
    sizes = (32, 32) if method == 'MoBY' else (32, 32, 16, 16)
    return _crops(batch, sizes)


@pytest.mark.parametrize('method', METHODS)
def test_loss__changes_no_state(method):
    model = _build(method)
    model.init_weights()
    _shift_teacher(model)
    before = deepcopy(model.state_dict())
    for _ in range(2):
        losses = model.loss(_inputs(method), None)
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    moved = [
        key
        for key, value in model.state_dict().items()
        if not torch.equal(value, before[key])
    ]
    # statistics of BatchNorm are no part of the promise
    assert [k for k in moved if '.bn0.' not in k] == []
    assert bool(moved) == (method == 'MoBY')


@pytest.mark.parametrize('method', METHODS)
def test_steps__move_the_teacher_exactly_once(method):
    model = _build(method)
    model.init_weights()
    _shift_teacher(model)
    own = _inner(model)
    before = {k: v.clone() for k, v in own.teacher.named_parameters()}
    m = own.teacher.momentum_at(0.3)
    assert 0.98 < m < 0.999

    def progress_of_teacher():
        return [
            key
            for key, value in own.teacher.named_parameters()
            if not torch.equal(value, before[key])
        ]

    model.loss(_inputs(method), None)
    model.before_step(0.3)
    assert bool(progress_of_teacher()) == (method == 'MoBY')
    model.loss(_inputs(method), None)
    model.loss(_inputs(method), None)
    model.after_step(0.3)
    assert len(progress_of_teacher()) == len(before)
    student = dict(own.named_parameters())
    for key, value in own.teacher.named_parameters():
        want = m * before[key] + (1 - m) * student[key]
        torch.testing.assert_close(value, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('method', METHODS)
def test_train_step__a_small_run(method):
    """Through the loop of mmengine; gradients reach every trained part."""
    from mmengine.optim import OptimWrapper

    model = _build(method)
    model.init_weights()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    for step in range(3):
        model.set_epoch(step)
        model.before_step(step / 3)
        batch = [
            (x * 40 + 120).clamp(0, 255).to(torch.uint8)
            for x in _inputs(method, batch=4 if step else 2)
        ]
        log = model.train_step(dict(inputs=batch, data_samples=None), wrapper)
        model.after_step(step / 3)
        if method == 'SelfPatch':
            total = log['loss_image'] + log['loss_patch']
            torch.testing.assert_close(log['loss'], total)
            assert log['loss_patch'] == 0.1 * log['patch_term']
        assert all(torch.isfinite(v) for v in log.values())
    losses = model.loss(_inputs(method), None)
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    without = [
        n
        for n, p in model.named_parameters()
        if p.requires_grad and p.grad is None
    ]
    assert without == []


@pytest.mark.parametrize('method', METHODS)
def test_guard__teacher_that_nobody_moves(method, monkeypatch):
    monkeypatch.setattr(student_teacher, '_PATIENCE', 3)
    model = _build(method)
    inputs = _inputs(method)
    for _ in range(3):
        model.loss(inputs, None)
    with pytest.raises(RuntimeError, match='MomentumUpdateHook'):
        model.loss(inputs, None)
    # evaluation does not count, and an update starts the count anew
    model.eval().loss(inputs, None)
    model.train().after_step(0.0)
    for _ in range(3):
        model.loss(inputs, None)


# crops ----------------------------------------------------------------------


def test_group__neighbours_of_one_size():
    model = _build()
    crops = _crops(sizes=(32, 32, 16, 16, 24, 16))
    groups = model.group(crops)
    assert [g.crops for g in groups] == [2, 2, 1, 1]
    place = 0
    for group in groups:
        for crop in group.images.chunk(group.crops):
            assert torch.equal(crop, crops[place])
            place += 1
    assert place == 6
    same = model.group(_crops(sizes=(32,) * 5))
    assert [g.crops for g in same] == [5]
    # as many numbers of pixels are no equal sizes
    wide = [*_crops(sizes=(32, 32)), torch.zeros(3, 3, 8, 32)]
    wide.append(torch.zeros(3, 3, 32, 8))
    assert [g.crops for g in model.group(wide)] == [2, 1, 1]


@pytest.mark.parametrize('method', ['DINO', 'SelfPatch'])
def test_loss__crops_that_do_not_fit(method):
    model = _build(method)
    with pytest.raises(ValueError, match='needs 2 global crops.* gives 1'):
        model.loss(_crops(sizes=(32,)), None)
    uneven = [*_crops(3, (32, 32)), *_crops(2, (16,))]
    with pytest.raises(ValueError, match=r'numbers of images: \[3, 3, 2\]'):
        model.loss(uneven, None)
    with pytest.raises(ValueError, match='first 2 crops are the global'):
        model.loss(_crops(sizes=(32, 16, 16)), None)
    with pytest.raises(ValueError, match='needs 2 global crops.* gives 0'):
        model.loss([], None)


@pytest.mark.parametrize('num_global', [0, -1])
def test_init__num_global_out_of_range(num_global):
    with pytest.raises(ValueError, match=f'num_global={num_global}'):
        _build(num_global=num_global)


def test_init__backbone_without_tokens_is_explained():
    model = _build(backbone={**VIT, 'out_type': 'cls_token'})
    with pytest.raises(ValueError, match="out_type='tokens'"):
        model.loss(_crops(), None)
