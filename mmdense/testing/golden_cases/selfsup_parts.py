"""Replay of the golden cases of single heads, and of MoBY."""

from typing import Any, Dict, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdense.models.losses.contrast import info_nce
from mmdense.models.necks import ClassAttentionPooling, DINOHead
from mmdense.models.utils.neighbor_matching import (
    NeighborMatching,
    neighbor_table,
)
from mmdense.registry import MODELS
from mmdense.utils.checkpoint_keys import own_state, read_training
from mmdense.utils.checkpoint_keys.pretraining_names import part_to_own
from mmdense.utils.position import infer_grid

from .comparison import (
    Arrays,
    Comparison,
    Item,
    below,
    official_names,
    tensors,
)


@torch.no_grad()
def selfpatch_head(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """Matching and aggregation of SelfPatch.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    hyper, check = case['hyper'], Comparison(case, arrays)
    pool = ClassAttentionPooling(
        hyper['in_dim'],
        hyper['num_heads'],
        hyper.get('layers', 2),
        hyper.get('mlp_ratio', 4),
    )
    entries = tensors(arrays, 'sd/')
    pool.load_state_dict(part_to_own('selfpatch', 'pool', entries)[0])
    window, count = hyper.get('k_size', 3), hyper['k_num']
    matching = NeighborMatching(window, count, 'wrap')
    for size, tokens in tensors(arrays, 'in/x').items():
        grid = infer_grid(tokens.shape[1])
        chosen, valid = matching(tokens, grid)
        table = matching.table(grid)[0]
        slots = (chosen[..., None] == table[None, :, None]).int().argmax(-1)
        whole = pool(tokens)[:, None]
        summaries = pool.aggregate(tokens, chosen, valid)
        normed = pool.norm(tokens)
        for name, value, kind in (
            ('sim', matching.similarity(tokens, grid), ''),
            ('topk_slot', slots, 'indices'),
            ('topk_patch', chosen, 'indices'),
            ('teacher', torch.cat((whole, summaries), dim=1), ''),
            ('student', torch.cat((whole, normed), dim=1), ''),
        ):
            yield check.item(f'out/{name}_{size}', value, kind)
    for name in arrays:
        if name.startswith('out/local_index_'):
            size, _, side = name[len('out/local_index_') :].partition('_k')
            table = neighbor_table(
                infer_grid(int(size)), int(side or window), 'wrap'
            )[0]
            yield check.item(name, table, 'indices')


def dino_head(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """Projection head of DINO in its variants.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    hyper, check = case['hyper'], Comparison(case, arrays)
    inputs = tensors(arrays, 'in/')
    for variant, options in hyper['variants'].items():
        head = DINOHead(
            hyper['in_dim'],
            hyper['out_dim'],
            hyper['hidden_dim'],
            hyper['bottleneck_dim'],
            num_layers=options.get('nlayers', 3),
            norm_last_layer=options.get('norm_last_layer', True),
            use_bn=options.get('use_bn', False),
        )
        head.load_state_dict(tensors(arrays, f'sd/{variant}/'))
        if f'out/{variant}_eval' in arrays:
            with torch.no_grad():
                out = head.eval()(inputs['x'])
            yield check.item(f'out/{variant}_eval', out)
        x = inputs['x'].clone().requires_grad_()
        out = head.train()(x)
        yield check.item(f'out/{variant}', out)
        (out * inputs['w']).sum().backward()
        grads: Dict[str, Any] = {'x': x.grad}
        for name, parameter in head.named_parameters():
            grads[name] = parameter.grad
        yield from check.items(f'grad/{variant}/', grads, 'grad')
        state = head.state_dict()
        for name in ('running_mean', 'running_var'):
            if f'out/{variant}_{name}' in arrays:
                yield check.item(
                    f'out/{variant}_{name}', state[f'mlp.1.{name}']
                )


def _encoder(hyper: Dict[str, Any], layers: int) -> Dict[str, Any]:
    width = hyper['embed_dim']
    norm = dict(type='LN', eps=hyper.get('layernorm_eps', 1e-5))
    if 'depths' in hyper:
        return dict(
            type='mmdense.SwinTransformer',
            arch=dict(
                embed_dims=width,
                depths=hyper['depths'],
                num_heads=hyper['num_heads'],
            ),
            img_size=hyper['img_size'],
            window_size=hyper['window'],
            drop_path_rate=hyper.get('drop_path', 0),
            norm_cfg=norm,
        )
    return dict(
        type='mmdense.VisionTransformer',
        arch=dict(
            embed_dims=width,
            num_layers=layers,
            num_heads=hyper['num_heads'],
            feedforward_channels=int(width * hyper.get('mlp_ratio', 4)),
        ),
        img_size=hyper['img_size'],
        patch_size=hyper['patch_size'],
        norm_cfg=norm,
        out_type='tokens',
        drop_path_rate=hyper.get('drop_path', 0),
    )


def _mlp(hyper: Dict[str, Any], width: int, layers: int) -> Dict[str, Any]:
    return dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=width,
        hid_channels=hyper['inner_dim'],
        out_channels=hyper['feature_dim'],
        num_layers=layers,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    )


def _moby_model(hyper: Dict[str, Any], arrays: Arrays) -> Any:
    state = tensors(arrays, 'sd/')
    width = state['projector.linear_hidden.1.weight'].shape[1]
    model: Any = MODELS.build(
        dict(
            type='mmdense.MoBY',
            backbone=_encoder(hyper, hyper.get('depth', 0)),
            neck=_mlp(hyper, width, hyper.get('proj_layers', 2)),
            predictor=_mlp(
                hyper, hyper['feature_dim'], hyper.get('pred_layers', 2)
            ),
            loss=dict(
                type='mmdense.MoBYLoss',
                channels=hyper['feature_dim'],
                queue_size=hyper['K'],
                temperature=hyper['T'],
            ),
            teacher=dict(momentum=hyper['m']),
        )
    )
    result = model.load_state_dict(
        own_state(read_training({'model': state})), strict=False
    )
    # set before each step; the official files do not have it
    wrong = {*result.missing_keys, *result.unexpected_keys}
    wrong -= {'teacher.momentum'}
    if wrong:
        raise ValueError(f'Keys that do not fit: {wrong}.')
    return model.train()


def moby(case: Dict[str, Any], arrays: Arrays) -> Iterator[Item]:
    """A step of MoBY: features, loss, queues, gradients, target, BatchNorm.

    Args:
        case (dict): Entry of ``index.json``.
        arrays (Mapping[str, ndarray]): Arrays of the case by name.

    Yields:
        Tuple: Name, computed value, stored value, rtol, atol.
    """
    hyper, check = case['hyper'], Comparison(case, arrays)
    model = _moby_model(hyper, arrays)
    model.before_step(hyper['start_epoch'] / hyper['epochs'])
    yield check.item('out/momentum', model.teacher.momentum, 'loss')
    state = official_names(model)
    yield from check.items('ema/', state)

    features = []
    seen: Dict[str, Tensor] = {}
    names = ('pred_1', 'pred_2', 'proj_1_ng', 'proj_2_ng')
    handles = [
        model.neck.register_forward_pre_hook(
            lambda _, args: features.append(args[0][0])
        ),
        model.loss_module.register_forward_pre_hook(
            lambda _, args: seen.update(zip(names, args))
        ),
    ]
    views = tensors(arrays, 'in/im_')
    loss = model.loss([views['1'], views['2']], [])['loss']
    for handle in handles:
        handle.remove()
    yield check.item('out/feat_1', features[0])
    unit = {key: F.normalize(seen[key], dim=1) for key in names}
    for key, value in unit.items():
        yield check.item(f'out/{key}', value)
    module, scale = model.loss_module, hyper['T']
    for name, query, key, queue in (
        ('loss_12', 'pred_1', 'proj_2_ng', module.queue2),
        ('loss_21', 'pred_2', 'proj_1_ng', module.queue1),
    ):
        term = info_nce(unit[query], unit[key], queue, scale)
        yield check.item(f'out/{name}', term, 'loss')
    yield check.item('out/loss', loss, 'loss')
    loss.backward()
    grads = official_names(model, grads=True)
    yield from check.items('grad/', grads, 'grad')

    model.after_step(0.0)
    state = official_names(model)
    for name in ('queue1', 'queue2', 'queue_ptr'):
        yield check.item(f'out/{name}', state[name])
    norm = below(state, 'projector.linear_hidden.2.')
    for name in ('running_mean', 'running_var'):
        yield check.item(f'out/bn_{name}', norm[name])
