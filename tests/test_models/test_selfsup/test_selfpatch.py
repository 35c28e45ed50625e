"""SelfPatch against loops over crops, images and patches."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope

import mmdense  # noqa: F401
from mmdense.registry import MODELS

VIT = dict(
    type='mmdense.VisionTransformer',
    arch=dict(
        embed_dims=12, num_layers=2, num_heads=2, feedforward_channels=24
    ),
    img_size=32,
    patch_size=8,
    out_type='tokens',
    with_cls_token=False,
    final_norm=False,
)
SWIN = dict(
    type='mmdense.SwinTransformer',
    arch=dict(embed_dims=6, depths=[1, 1], num_heads=[1, 2]),
    img_size=32,
    window_size=4,
    drop_path_rate=0.0,
)
POOL = dict(type='mmdense.ClassAttentionPooling', embed_dims=12, num_heads=2)
BATCH, WIDTH, PATCH_WIDTH, DIMS = 2, 20, 14, 6


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
        out_channels=DIMS,
        with_avg_pool=False,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        norm_cfg=dict(type='BN1d'),
    )


def _dino(backbone=VIT, **kwargs):
    return dict(
        type='mmdense.DINO',
        backbone=backbone,
        neck=_head(WIDTH),
        loss=dict(type='mmdense.DINOLoss', out_channels=WIDTH),
        **kwargs,
    )


def _moby(backbone=VIT, **kwargs):
    return dict(
        type='mmdense.MoBY',
        backbone=backbone,
        neck=_projector(12),
        predictor=_projector(DIMS),
        loss=dict(type='mmdense.MoBYLoss', channels=DIMS, queue_size=16),
        **kwargs,
    )


def _config(method=None, negatives=None, **kwargs):
    config = dict(
        type='mmdense.SelfPatch', method=method or _dino(), aggregation=POOL
    )
    if negatives is None:
        config['patch_head'] = _head(PATCH_WIDTH)
        config['patch_loss'] = dict(
            type='mmdense.PatchDistillationLoss',
            out_channels=PATCH_WIDTH,
            chunk_size=32,
        )
    else:
        config['patch_head'] = _projector(12)
        config['patch_predictor'] = _projector(DIMS)
        config['patch_loss'] = dict(
            type='mmdense.PatchContrastLoss',
            negatives=negatives,
            channels=DIMS,
            queue_size=16,
        )
    return {**config, **kwargs}


def _apart(model):
    """A teacher and centres of their own; features that differ."""
    g = torch.Generator().manual_seed(7)

    def noise(tensor):
        return 0.2 * torch.randn(tensor.shape, generator=g)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith('center'):
                buffer.add_(noise(buffer))
    return model


def _build(method=None, negatives=None, seed=0, **kwargs):
    init_default_scope('mmdense')
    torch.manual_seed(seed)
    model = MODELS.build(_config(method, negatives, **kwargs))
    model.init_weights()
    return _apart(model)


def _crops(batch=BATCH, sizes=(32, 32, 24, 24, 24), seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, s, s, generator=g) for s in sizes]


def _tokens(backbone, images):
    out = backbone(images)[-1]
    if isinstance(out, torch.Tensor):
        hw = tuple(out.shape[2:])
        return out.flatten(2).transpose(1, 2), hw
    return out.patches, out.hw


def _around(hw, patch, window, border):
    y, x = divmod(patch, hw[1])
    if window == 'all':
        return [n for n in range(hw[0] * hw[1]) if n != patch]
    reach = range(-(window // 2), window // 2 + 1)
    found = []
    for dy in reach:
        for dx in reach:
            row, column = y + dy, x + dx
            if border == 'wrap':
                row, column = row % hw[0], column % hw[1]
            inside = 0 <= row < hw[0] and 0 <= column < hw[1]
            if inside and (dy, dx) != (0, 0):
                found.append(row * hw[1] + column)
    return found


def _neighbours(tokens, hw, window=3, top_k=4, border='mask'):
    """Chosen patches of every patch of one image."""
    unit = tokens / tokens.norm(dim=1, keepdim=True)
    chosen = []
    for patch in range(len(tokens)):
        near = _around(hw, patch, window, border)
        near.sort(key=lambda n: -float(unit[patch] @ unit[n]))
        chosen.append(near[:top_k])
    return chosen


def _summaries(model, tokens, hw, matching):
    """One call of the aggregation head for every patch of every image."""
    pool = model.method.teacher.pool
    rows = []
    for image in tokens:
        for near in _neighbours(image, hw, **matching):
            if model.patch_target == 'mean':
                rows.append(pool.norm(sum(image[n] for n in near) / len(near)))
            else:
                rows.append(pool(image[near][None])[0])
    return torch.stack(rows)


def _dino_terms(model, crops):
    method = model.method
    with torch.no_grad():
        goals = [
            method.teacher.neck(
                method.teacher.pool(_tokens(method.teacher.backbone, crop)[0])
            )
            for crop in crops
        ]
    loss = method.loss_module
    logits = [
        method.neck(method.pool(_tokens(method.backbone, crop)[0]))
        for crop in crops
    ]
    terms = []
    for t in range(2):
        p = ((goals[t] - loss.center) / loss.teacher_temp).softmax(1)
        for s in range(len(crops)):
            if s != t:
                log_q = (logits[s] / 0.1).log_softmax(1)
                terms.append(-(p * log_q).sum(1).mean())
    return terms, goals


def _patch_terms(model, crops, matching):
    method, loss = model.method, model.patch_loss
    terms, goals = [], []
    for crop in crops:
        tokens, hw = _tokens(method.backbone, crop)
        with torch.no_grad():
            seen, _ = _tokens(method.teacher.backbone, crop)
            goal = method.teacher.patch_head(
                _summaries(model, seen, hw, matching)
            )
            p = ((goal - loss.center) / loss.teacher_temp).softmax(1)
        goals.append(goal)
        logits = method.patch_head(method.pool.norm(tokens).flatten(0, 1))
        terms.append(-(p * (logits / 0.1).log_softmax(1)).sum(1).mean())
    return terms, goals


def _gradients(model):
    found = {
        n: p.grad for n, p in model.named_parameters() if p.grad is not None
    }
    model.zero_grad()
    return found


def _same(got, want, rtol=1e-3, atol=2e-5):
    assert set(got) == set(want)
    for name, value in want.items():
        torch.testing.assert_close(
            got[name], value, rtol=rtol, atol=atol, msg=name
        )


DEFAULT = dict(window=3, top_k=4, border='mask')
CASES = {
    'paper': {},
    'wrap': dict(matching=dict(border='wrap')),
    'window5': dict(matching=dict(window=5)),
    'all': dict(matching=dict(window='all')),
    'k1': dict(matching=dict(top_k=1)),
    'k8': dict(matching=dict(top_k=8)),
    'mean': dict(patch_target='mean'),
    'mean_k8': dict(patch_target='mean', matching=dict(top_k=8)),
    'patch16': dict(
        method=_dino({**VIT, 'patch_size': 16}),
        sizes=(64, 64, 48, 48),
    ),
    'swin': dict(method=_dino(SWIN)),
    'center_all': dict(method=_dino(center_crops='all')),
    'lambda1': dict(loss_weight=1.0),
}


@pytest.mark.parametrize('name', list(CASES))
def test_loss__equals_loops(name):
    case = dict(CASES[name])
    crops = _crops(sizes=case.pop('sizes', (32, 32, 24, 24, 24)))
    model = _build(**case)
    matching = {**DEFAULT, **case.get('matching', {})}
    centers = [
        m.center.clone() for m in (model.method.loss_module, model.patch_loss)
    ]
    out = model.loss(crops, None)
    (out['loss_image'] + out['loss_patch']).backward()
    got = _gradients(model)

    image, image_goals = _dino_terms(model, crops)
    patch, patch_goals = _patch_terms(model, crops, matching)
    assert len(image) == 2 * (len(crops) - 1) and len(patch) == len(crops)
    weight = case.get('loss_weight', 0.1)
    terms = sum(image) / len(image), sum(patch) / len(patch)
    torch.testing.assert_close(out['loss_image'], terms[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(out['patch_term'], terms[1], rtol=1e-4, atol=0)
    torch.testing.assert_close(
        out['loss_patch'], weight * terms[1], rtol=1e-4, atol=0
    )
    (terms[0] + weight * terms[1]).backward()
    _same(got, _gradients(model))

    model.after_step(0.0)
    seen = image_goals if name == 'center_all' else image_goals[:2]
    for module, start, goals in (
        (model.method.loss_module, centers[0], seen),
        (model.patch_loss, centers[1], patch_goals),
    ):
        # each patch counts once, whatever its crop
        want = 0.9 * start + 0.1 * torch.cat(goals).mean(0)
        torch.testing.assert_close(module.center, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'sizes,counts', [((32, 32, *[24] * 8), (18, 10)), ((32, 32), (2, 2))]
)
def test_loss__number_of_terms(sizes, counts):
    model = _build()
    crops = _crops(sizes=sizes)
    out = model.loss(crops, None)
    image, _ = _dino_terms(model, crops)
    patch, _ = _patch_terms(model, crops, DEFAULT)
    assert (len(image), len(patch)) == counts
    torch.testing.assert_close(
        out['loss_image'], sum(image) / counts[0], rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        out['patch_term'], sum(patch) / counts[1], rtol=1e-4, atol=0
    )


def test_loss__without_patch_term_is_dino_with_the_pool():
    """lambda 0: gradients, centre and teacher of plain DINO."""
    model = _build(loss_weight=0.0, patch_head=None, patch_loss=None)
    init_default_scope('mmdense')
    plain = MODELS.build(_dino(pool=POOL))
    plain.load_state_dict(model.method.state_dict())
    crops = _crops()
    out, want = model.loss(crops, None), plain.loss(crops, None)
    assert set(out) == {*want, 'loss_image'} - {'loss'}
    assert torch.equal(out['loss_image'], want['loss'])
    out['loss_image'].backward(), want['loss'].backward()
    own = {n[len('method.') :]: g for n, g in _gradients(model).items()}
    _same(own, _gradients(plain), rtol=0, atol=0)
    model.after_step(0.3), plain.after_step(0.3)
    for key, value in plain.state_dict().items():
        assert torch.equal(model.method.state_dict()[key], value), key


def test_loss__image_part_does_not_depend_on_the_patch_part():
    model = _build()
    none = _build(loss_weight=0.0)
    none.method.load_state_dict(
        {
            k: v
            for k, v in model.method.state_dict().items()
            if 'patch_head' not in k
        }
    )
    crops = _crops()
    out = model.loss(crops, None)
    out['loss_image'].backward()
    got = _gradients(model)
    none.loss(crops, None)['loss_image'].backward()
    _same(got, _gradients(none), rtol=0, atol=0)


def test_loss__where_the_patch_term_sends_gradients():
    model = _build()
    model.loss(_crops(), None)['loss_patch'].backward()
    got = _gradients(model)
    # of the aggregation head only the norm of the student's tokens
    pool = {n for n in got if n.startswith('method.pool')}
    assert pool == {'method.pool.norm.weight', 'method.pool.norm.bias'}
    assert not [n for n in got if 'teacher' in n or 'method.neck' in n]
    heads = [n for n in got if n.startswith('method.patch_head')]
    assert len(heads) == 7
    backbone = {
        n
        for n, _ in model.named_parameters()
        if n.startswith('method.backbone')
    }
    assert backbone <= set(got)


def test_loss__without_patch_term_the_teacher_sees_global_crops_alone():
    model = _build(loss_weight=0.0)
    seen = []
    model.method.teacher.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(tuple(args[0].shape))
    )
    model.loss(_crops(), None)
    assert seen == [(2 * BATCH, 3, 32, 32)]


@pytest.mark.parametrize('method', [_dino(), _moby()])
@pytest.mark.parametrize('negatives', [None, 'none', 'queue'])
def test_loss__every_method_goes_with_every_patch_loss(method, negatives):
    model = _build(method, negatives)
    out = model.loss(_crops(4, (32, 32)), None)
    (out['loss_image'] + out['loss_patch']).backward()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert set(_gradients(model)) == trained
    model.after_step(0.0)


def test_forward__features_for_other_uses():
    model = _build()
    tokens = model(_crops()[0], mode='tensor')[-1]
    assert torch.equal(
        tokens.patches, model.method.backbone(_crops()[0])[-1].patches
    )
    assert deepcopy(model).monitored == {}
    model.loss(_crops(), None)
    copy = deepcopy(model)
    assert torch.equal(copy.monitored['local'], model.monitored['local'])
    assert not copy.patch_loss._held and model.patch_loss._held


def test_loss__nothing_flows_into_the_teacher_even_if_it_could():
    model = _build()
    model.method.teacher.requires_grad_(True)
    out = model.loss(_crops(), None)
    (out['loss_image'] + out['loss_patch']).backward()
    assert not [n for n in _gradients(model) if 'teacher' in n]


def test_loss__what_is_logged():
    model = _build()
    out = model.loss(_crops(), None)
    assert {k for k, v in out.items() if v.requires_grad} == {
        'loss_image',
        'loss_patch',
    }
    assert {k for k in out if 'loss' in k} == {'loss_image', 'loss_patch'}
    assert {
        'patch_term',
        'teacher_entropy',
        'teacher_information',
        'center_norm',
        'std_global',
        'patch_entropy',
        'std_local',
    } <= set(out)
    assert all(v.ndim == 0 and torch.isfinite(v) for v in out.values())
    total, logs = model.parse_losses(out)
    torch.testing.assert_close(total, out['loss_image'] + out['loss_patch'])
    # features of the first crop, of all its patches
    tokens, _ = _tokens(model.backbone, _crops()[0])
    torch.testing.assert_close(
        model.monitored['local'],
        model.method.pool.norm(tokens).flatten(0, 1),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(
        model.monitored['global'],
        model.method.pool(tokens),
        rtol=1e-4,
        atol=1e-5,
    )
    assert not any(v.requires_grad for v in model.monitored.values())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('negatives', [None, 'queue'])
def test_loss__autocast_stays_near_float32(dtype, negatives):
    if dtype == torch.float16 and not hasattr(torch, 'get_autocast_dtype'):
        dtype = torch.bfloat16  # torch 2.1 has no other on the CPU
    method = None if negatives is None else _moby()
    crops = _crops() if negatives is None else _crops(4, (32, 32))
    outs = []
    for enabled in (False, True):
        model = _build(method, negatives)
        with torch.autocast('cpu', dtype=dtype, enabled=enabled):
            out = model.loss(crops, None)
        (out['loss_image'] + out['loss_patch']).backward()
        assert all(torch.isfinite(g).all() for g in _gradients(model).values())
        model.after_step(0.0)
        state = model.state_dict()
        assert all(v.dtype != dtype for v in state.values())
        outs.append((out, state))
    full, half = outs
    tolerance = torch.finfo(dtype).eps * (2 / 0.04 if not negatives else 60)
    for name in ('loss_image', 'patch_term'):
        assert half[0][name].dtype == torch.float32
        error = (half[0][name] - full[0][name]).abs()
        assert error < tolerance * full[0][name]
    for name in ('method.loss_module.center', 'patch_loss.center'):
        if name in full[1]:
            moved = (half[1][name] - full[1][name]).abs().max()
            # a tenth of what the teacher's logits of size 1 are off
            assert moved < 0.1 * 8 * torch.finfo(dtype).eps


def test_steps__accumulated_half_batches_are_one_batch():
    one, two = _build(), _build()
    crops = _crops(batch=4)
    for model, parts in (
        (one, [slice(0, 4)]),
        (two, [slice(0, 2), slice(2, 4)]),
    ):
        model.before_step(0.2)
        for part in parts:
            out = model.loss([c[part] for c in crops], None)
            total = out['loss_image'] + out['loss_patch']
            (total / len(parts)).backward()
    _same(_gradients(two), _gradients(one))
    one.after_step(0.2), two.after_step(0.2)
    for key, value in one.state_dict().items():
        torch.testing.assert_close(
            two.state_dict()[key], value, rtol=1e-4, atol=1e-6, msg=key
        )


def test_set_epoch__reaches_both_temperatures():
    model = _build()
    for loss in (model.method.loss_module, model.patch_loss):
        loss.first_temp, loss.warmup_epochs = 0.02, 3
    for epoch, want in ((0, 0.02), (1, 0.03), (2, 0.04), (5, 0.04)):
        model.set_epoch(epoch)
        for loss in (model.method.loss_module, model.patch_loss):
            assert loss.teacher_temp.item() == pytest.approx(want)


# MoBY -----------------------------------------------------------------------


def _project(neck, x):
    x = F.linear(x, neck.fc0.weight, neck.fc0.bias)
    x = (x - x.mean(0)) / (x.var(0, unbiased=False) + neck.bn0.eps).sqrt()
    x = F.relu(x * neck.bn0.weight + neck.bn0.bias)
    return F.linear(x, neck.fc1.weight, neck.fc1.bias)


@pytest.mark.parametrize('backbone', [VIT, SWIN])
@pytest.mark.parametrize('negatives', ['none', 'queue'])
@pytest.mark.parametrize('patch_target', ['attention', 'mean'])
def test_moby__patch_term_equals_loops(backbone, negatives, patch_target):
    model = _build(_moby(backbone), negatives, patch_target=patch_target)
    method = model.method
    views = _crops(4, (32, 32))
    out = model.loss(views, None)
    out['loss_patch'].backward()
    got = _gradients(model)
    losses, keys = [], []
    for view in views:
        tokens, hw = _tokens(method.backbone, view)
        rows = method.pool.norm(tokens).flatten(0, 1)
        query = _project(
            model.patch_predictor, _project(method.patch_head, rows)
        )
        with torch.no_grad():
            seen, _ = _tokens(method.teacher.backbone, view)
            goal = _project(
                method.teacher.patch_head,
                _summaries(model, seen, hw, DEFAULT),
            )
            key = _project(
                method.teacher.patch_head, method.teacher.pool(seen)
            )
            keys.append(F.normalize(key))
        q, k = F.normalize(query), F.normalize(goal)
        cosine = (q * k).sum(1)
        if negatives == 'none':
            losses.append((2 - 2 * cosine).mean())
        else:
            scores = torch.cat(
                (cosine[:, None], q @ model.patch_loss.queue), 1
            )
            losses.append(-(scores / 0.2).log_softmax(1)[:, 0].mean())
    want = sum(losses) / 2
    torch.testing.assert_close(out['patch_term'], want, rtol=1e-4, atol=1e-4)
    (0.1 * want).backward()
    _same(got, _gradients(model), rtol=1e-2, atol=2e-4)
    model.after_step(0.0)
    if negatives == 'queue':
        queue = model.patch_loss.queue[:, :8].t()
        torch.testing.assert_close(
            queue, torch.cat(keys), rtol=1e-3, atol=1e-3
        )
        assert model.patch_loss.queue_ptr.item() == 8


def test_moby__image_part_is_moby_with_the_pool():
    model = _build(_moby(), 'queue')
    init_default_scope('mmdense')
    plain = MODELS.build(_moby(pool=POOL))
    plain.load_state_dict(
        {
            k: v
            for k, v in model.method.state_dict().items()
            if 'patch_head' not in k
        }
    )
    views = _crops(4, (32, 32))
    model.before_step(0.2), plain.before_step(0.2)
    out, want = model.loss(views, None), plain.loss(views, None)
    assert torch.equal(out['loss_image'], want['loss'])
    model.after_step(0.2), plain.after_step(0.2)
    assert torch.equal(
        model.method.loss_module.queue1, plain.loss_module.queue1
    )


def test_moby__bad_input():
    model = _build(_moby(), 'queue')
    with pytest.raises(ValueError, match='two views'):
        model.loss(_crops(4), None)
    with pytest.raises(ValueError, match='batch_size to 2 or more'):
        model.loss(_crops(1, (32, 32)), None)
    small = _config(_moby(), 'queue')
    small['patch_loss']['queue_size'] = 14
    with pytest.raises(ValueError, match='model.patch_loss.queue_size=14'):
        MODELS.build(small).loss(_crops(4, (32, 32)), None)
    lacking = _config(_moby(), 'none', patch_predictor=None)
    with pytest.raises(ValueError, match='model.patch_predictor'):
        MODELS.build(lacking).loss(_crops(4, (32, 32)), None)


# matching -------------------------------------------------------------------


@pytest.mark.parametrize('name', ['paper', 'wrap', 'window5', 'all', 'swin'])
def test_match__equals_loops_and_leaves_no_trace(name):
    case = CASES[name]
    model = _build(**case)
    matching = {**DEFAULT, **case.get('matching', {})}
    crops = _crops(batch=3)
    before = deepcopy(model.state_dict())
    rng = torch.get_rng_state()
    found = model.match(crops)
    assert torch.equal(torch.get_rng_state(), rng)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    # nothing is held for the next step either
    assert not model.patch_loss._held and model.method._waiting == 0
    assert [tuple(f.shape[:1]) for f in found] == [(6,), (9,)]
    place = 0
    for group in found:
        for crop in group.chunk(len(group) // 3):
            tokens, hw = _tokens(model.method.teacher.backbone, crops[place])
            place += 1
            for image, chosen in zip(tokens, crop):
                want = _neighbours(image.detach(), hw, **matching)
                for near, got in zip(want, chosen.tolist()):
                    assert got[: len(near)] == near
    assert place == len(crops)


# bad input ------------------------------------------------------------------


@pytest.mark.parametrize(
    'change,told',
    [
        (dict(patch_target='max'), "patch_target='max'"),
        (dict(loss_weight=-0.1), 'loss_weight=-0.1'),
        (dict(patch_head=None), 'needs patch_head and patch_loss'),
        (dict(patch_loss=None), 'needs patch_head and patch_loss'),
        (dict(matching=dict(top_k=9)), 'top_k=9'),
        (dict(matching=dict(border='cut')), "border='cut'"),
        (
            dict(method=_dino({**VIT, 'with_cls_token': True})),
            'with_cls_token=False',
        ),
        (dict(aggregation={**POOL, 'num_heads': 5}), 'num_heads=5'),
    ],
)
def test_init__options_that_do_not_fit(change, told):
    init_default_scope('mmdense')
    with pytest.raises(ValueError, match=told):
        MODELS.build(_config(**change))


def test_loss__crops_that_are_too_small():
    with pytest.raises(ValueError, match='2x2 patches'):
        _build(matching=dict(border='wrap')).loss(
            _crops(sizes=(32, 32, 16)), None
        )
    with pytest.raises(ValueError, match='1x1 patches gives a patch 0'):
        _build().loss(_crops(sizes=(32, 32, 8)), None)
    # two by two is enough with border='mask'
    out = _build().loss(_crops(sizes=(32, 32, 16)), None)
    assert torch.isfinite(out['patch_term'])


def test_loss__patch_head_of_another_width():
    model = _build(patch_head=_head(PATCH_WIDTH + 1))
    with pytest.raises(ValueError, match='model.patch_loss.out_channels=14'):
        model.loss(_crops(), None)


def test_get_layer_depth__of_the_methods_backbone():
    model = _build()
    depth, count = model.get_layer_depth('method.backbone.layers.1.ln1.weight')
    assert (depth, count) == (2, 4)
    assert model.get_layer_depth('method.backbone.pos_embed')[0] == 0
    assert model.get_layer_depth('method.neck.mlp.0.weight')[0] == 3
