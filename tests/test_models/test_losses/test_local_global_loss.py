"""LocalGlobalLoss against a loop over queries, patches and negatives."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from mmdense.models.losses import LocalGlobalLoss
from mmdense.testing.distributed import run_distributed


def _loop(z, z_other, p, p_own, tau, negatives):
    """The loss of one direction, term by term (spec 2.2)."""
    total, count = 0.0, 0
    for b in range(z.shape[0]):
        scores = []
        for c in range(z.shape[0]):
            if c == b:
                continue
            if negatives in ('local', 'both', 'local_two_view'):
                scores += [z[b] @ k / tau for k in p[c]]
            if negatives in ('global', 'both'):
                scores.append(z[b] @ z_other[c] / tau)
            if negatives == 'local_two_view':
                scores += [z[b] @ k / tau for k in p_own[c]]
        for i in range(p.shape[1]):
            positive = z[b] @ p[b, i] / tau
            denominator = positive.exp() + sum(s.exp() for s in scores)
            total = total - (positive.exp() / denominator).log()
            count += 1
    return total / count


def _reference(tokens, tau, negatives, symmetric, normalize):
    if normalize:
        tokens = [F.normalize(t, dim=-1) for t in tokens]
    z1, p1, z2, p2 = tokens
    loss = _loop(z1, z2, p2, p1, tau, negatives)
    if symmetric:
        loss = 0.5 * (loss + _loop(z2, z1, p1, p2, tau, negatives))
    return loss


def _tokens(batch=3, n1=4, n2=4, dims=8, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=dtype)

    return [
        draw(batch, dims),
        draw(batch, n1, dims),
        draw(batch, dims),
        draw(batch, n2, dims),
    ]


@pytest.mark.parametrize(
    'negatives,symmetric,normalize,tau,batch',
    list(
        itertools.product(
            ('local', 'global', 'both', 'local_two_view'),
            (True, False),
            (True, False),
            (0.1, 1.0),
            (2, 3),
        )
    ),
)
def test_forward__equals_loop(negatives, symmetric, normalize, tau, batch):
    tokens = [t * 0.3 for t in _tokens(batch)]
    ours = [t.float().requires_grad_() for t in tokens]
    plain = [t.clone().requires_grad_() for t in tokens]
    loss = LocalGlobalLoss(
        temperature=tau,
        normalize=normalize,
        symmetric=symmetric,
        negatives=negatives,
    )(*ours)['loss']
    expected = _reference(plain, tau, negatives, symmetric, normalize)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    expected.backward()
    for got, want in zip(ours, plain):
        grad = torch.zeros_like(want) if want.grad is None else want.grad
        own = torch.zeros_like(got) if got.grad is None else got.grad
        torch.testing.assert_close(own.double(), grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_forward__is_float32_under_autocast(dtype):
    tokens = [t.to(dtype) for t in _tokens()]
    module = LocalGlobalLoss()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = module(*tokens)['loss']
    outside = module(*[t.float() for t in tokens])['loss']
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)


@pytest.mark.parametrize('scale', [1e-6, 1e4])
def test_forward__is_finite_for_extreme_tokens(scale):
    tokens = [(t * scale).float().requires_grad_() for t in _tokens()]
    loss = LocalGlobalLoss(temperature=0.01)(*tokens)['loss']
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(t.grad).all() for t in tokens)


def test_forward__one_patch_is_info_nce():
    z1, p1, z2, p2 = _tokens(batch=5, n1=1, n2=1, dtype=torch.float32)
    got = LocalGlobalLoss(symmetric=False)(z1, p1, z2, p2)['loss']
    logits = F.normalize(z1, dim=-1) @ F.normalize(p2[:, 0], dim=-1).t() / 0.1
    torch.testing.assert_close(got, F.cross_entropy(logits, torch.arange(5)))


@pytest.mark.parametrize('batch,n', [(2, 1), (4, 9)])
def test_forward__equal_vectors(batch, n):
    z, p = torch.ones(batch, 8), torch.ones(batch, n, 8)
    out = LocalGlobalLoss()(z, p, z, p)
    expected = math.log(1 + (batch - 1) * n)
    assert out['loss'].item() == pytest.approx(expected, rel=1e-6)
    assert out['std_global'].item() == pytest.approx(0, abs=1e-6)
    assert out['std_local'].item() == pytest.approx(0, abs=1e-6)
    assert out['acc'].item() == 0


@pytest.mark.parametrize('n', [1, 5])
def test_forward__opposite_images(n):
    z = torch.zeros(2, 8)
    z[0, 0], z[1, 0] = 1, -1
    p = z[:, None].expand(2, n, 8)
    out = LocalGlobalLoss(temperature=0.1)(z, p, z, p)
    expected = math.log1p(n * math.exp(-20))
    assert out['loss'].item() == pytest.approx(expected, rel=1e-4)
    assert out['pos_cos'].item() == pytest.approx(1)
    assert out['neg_cos'].item() == pytest.approx(-1)
    assert out['acc'].item() == 1
    if n == 1:
        assert out['loss'].item() == pytest.approx(2.06e-9, rel=1e-2)


def test_forward__permutation_of_patches_and_images():
    z1, p1, z2, p2 = _tokens(batch=4, n1=6, n2=6)
    module = LocalGlobalLoss()
    base = module(z1, p1, z2, p2)['loss']
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        module(z1, p1[:, order], z2, p2[:, order.flip(0)])['loss'], base
    )
    images = torch.tensor([2, 0, 3, 1])
    shuffled = module(z1[images], p1[images], z2[images], p2[images])['loss']
    torch.testing.assert_close(shuffled, base)


def test_forward__positives_do_not_compete():
    """Moving p[b, j] leaves l[b, i != j] alone and changes l[c, :]."""
    z1, p1, z2, p2 = [
        F.normalize(t, dim=-1).requires_grad_() for t in _tokens(3, 4, 4)
    ]

    def terms(p):
        scores = torch.einsum('bd,cnd->bcn', z1, p) / 0.1
        eye = torch.eye(3, dtype=torch.bool)[:, :, None]
        neg = scores.masked_fill(eye, -math.inf).flatten(1).logsumexp(1)
        own = torch.einsum('bd,bnd->bn', z1, p) / 0.1
        return F.softplus(neg[:, None] - own)

    module = LocalGlobalLoss(symmetric=False, normalize=False)
    loss = module(z1, p1, z2, p2)['loss']
    torch.testing.assert_close(
        loss.double(), terms(p2).mean(), rtol=1e-5, atol=1e-6
    )
    moved = p2.detach().clone()
    moved[0, 2] = -moved[0, 2]
    before, after = terms(p2), terms(moved)
    assert torch.equal(before[0, [0, 1, 3]], after[0, [0, 1, 3]])
    assert (before[1:] - after[1:]).abs().min() > 0
    change = module(z1, p1, z2, moved)['loss'] - loss
    torch.testing.assert_close(
        change.double(), (after - before).mean(), rtol=1e-3, atol=1e-5
    )


def test_forward__monitors_equal_a_loop():
    tokens = _tokens(batch=3, n1=4, n2=4)
    out = LocalGlobalLoss(symmetric=False)(*tokens)
    z, _, _, p = [F.normalize(t, dim=-1) for t in tokens]
    pos, neg, hits = [], [], []
    for b in range(3):
        others = [z[b] @ k for c in range(3) if c != b for k in p[c]]
        neg += others
        for i in range(4):
            pos.append(z[b] @ p[b, i])
            hits.append(float(pos[-1] > max(others)))
    assert out['pos_cos'].item() == pytest.approx(
        torch.stack(pos).mean().item(), abs=1e-6
    )
    assert out['neg_cos'].item() == pytest.approx(
        torch.stack(neg).mean().item(), abs=1e-6
    )
    assert out['acc'].item() == pytest.approx(sum(hits) / len(hits))


def test_forward__position_alone_is_collapse():
    """Patches that differ by place only carry nothing of the image."""
    z = torch.randn(8, 16)
    place = torch.randn(1, 5, 16).expand(8, 5, 16)
    out = LocalGlobalLoss()(z, place, z, place)
    assert out['std_local'].item() == pytest.approx(0, abs=1e-6)
    assert out['std_global'].item() > 0.5


def test_forward__spread_features_have_std_one():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(512, 64, generator=g)
    p = torch.randn(512, 2, 64, generator=g)
    out = LocalGlobalLoss(symmetric=False)(z, p, z, p)
    assert out['std_global'].item() == pytest.approx(1, abs=0.05)
    assert out['std_local'].item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize('side', ['local', 'global'])
def test_forward__stop_grad(side):
    tokens = [t.float().requires_grad_() for t in _tokens()]
    LocalGlobalLoss(stop_grad=side)(*tokens)['loss'].backward()
    stopped = (1, 3) if side == 'local' else (0, 2)
    for index, token in enumerate(tokens):
        if index in stopped:
            assert token.grad is None or not token.grad.any()
        else:
            assert token.grad.abs().sum() > 0


def test_forward__views_of_different_size():
    z1, p1, z2, p2 = _tokens(batch=2, n1=9, n2=4)
    got = LocalGlobalLoss()(z1, p1, z2, p2)['loss'].double()
    want = _reference([z1, p1, z2, p2], 0.1, 'local', True, True)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_forward__one_image_says_what_to_do():
    tokens = _tokens(batch=1)
    with pytest.raises(ValueError, match='batch_size.*gather=True'):
        LocalGlobalLoss()(*tokens)
    with pytest.raises(ValueError, match='other images'):
        LocalGlobalLoss(gather=True)(*tokens)


def test_forward__wrong_shape_is_named():
    z1, p1, z2, p2 = _tokens()
    with pytest.raises(ValueError, match=r'local_2.*\(3, 4, 6\)'):
        LocalGlobalLoss()(z1, p1, z2, p2[..., :6])


@pytest.mark.parametrize(
    'option', [{'temperature': 0}, {'negatives': 'x'}, {'stop_grad': 'x'}]
)
def test_init__rejects(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        LocalGlobalLoss(**option)


def _step(rank, world_size, gather, batch):
    """Loss and mean parameter gradient, as DDP takes it."""
    tokens = _tokens(batch * world_size)
    weight = torch.eye(8, dtype=torch.float64).requires_grad_()
    mine = slice(rank * batch, (rank + 1) * batch)
    out = LocalGlobalLoss(gather=gather, negatives='both')(
        *[t[mine] @ weight for t in tokens]
    )
    out['loss'].backward()
    grad = weight.grad.clone()
    torch.distributed.all_reduce(grad)
    return out['loss'].item(), (grad / world_size).numpy()


@pytest.mark.dist
def test_forward__two_processes_gather_equals_joint_batch():
    results = run_distributed(_step, 2, True, 2)
    tokens = _tokens(4)
    weight = torch.eye(8, dtype=torch.float64).requires_grad_()
    loss = LocalGlobalLoss(negatives='both')(*[t @ weight for t in tokens])[
        'loss'
    ]
    loss.backward()
    mean = sum(r[0] for r in results) / 2
    assert mean == pytest.approx(loss.item(), rel=1e-5)
    for _, grad in results:
        torch.testing.assert_close(
            torch.from_numpy(grad), weight.grad, rtol=1e-4, atol=1e-6
        )


@pytest.mark.dist
def test_forward__two_processes_gather_from_one_image_each():
    results = run_distributed(_step, 2, True, 1)
    want = LocalGlobalLoss(negatives='both')(*_tokens(2))['loss'].item()
    assert sum(r[0] for r in results) / 2 == pytest.approx(want, rel=1e-5)


@pytest.mark.dist
def test_forward__two_processes_apart_are_two_losses():
    results = run_distributed(_step, 2, False, 2)
    tokens = _tokens(4)
    for rank, (loss, _) in enumerate(results):
        own = [t[2 * rank : 2 * rank + 2] for t in tokens]
        alone = LocalGlobalLoss(negatives='both')(*own)['loss'].item()
        assert loss == pytest.approx(alone, rel=1e-6)
