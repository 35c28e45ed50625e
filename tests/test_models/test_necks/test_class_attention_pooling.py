"""Aggregation against attention over each patch's own sequence."""

import pytest
import torch
import torch.nn.functional as F

from mmdense.models.necks import ClassAttentionPooling

# torch 2.1 has autocast to bfloat16 alone on the CPU
HALF = [torch.bfloat16, torch.float16]
HALF = HALF if hasattr(torch, 'get_autocast_dtype') else HALF[:1]


def _pool(dims=12, heads=3, depth=2, wide=0.4):
    """With weights large enough that attention is not uniform."""
    torch.manual_seed(0)
    pool = ClassAttentionPooling(dims, heads, depth)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=wide)
    return pool


def _attend(attn, sequence, heads):
    """Class attention of one sequence ``(1 + M, D)``, head by head."""
    query, key, value = (
        F.linear(x, part.weight, part.bias)
        for x, part in (
            (sequence[:1], attn.q),
            (sequence, attn.k),
            (sequence, attn.v),
        )
    )
    width = sequence.shape[1] // heads
    out = []
    for head in range(heads):
        cut = slice(head * width, (head + 1) * width)
        scores = query[0, cut] @ key[:, cut].t() / width**0.5
        weights = scores.exp() / scores.exp().sum()
        out.append(sum(w * v for w, v in zip(weights, value[:, cut])))
    return F.linear(torch.cat(out), attn.proj.weight, attn.proj.bias)


def _summary(pool, tokens, heads):
    """Formulas of the spec for one set of tokens ``(M, D)``."""
    cls = pool.cls_token[0, 0]
    for block in pool.blocks:
        norm1, norm2 = block.norm1, block.norm2
        both = torch.cat((cls[None], tokens))
        both = F.layer_norm(
            both, both.shape[1:], norm1.weight, norm1.bias, 1e-6
        )
        cls = cls + _attend(block.attn, both, heads)
        inner = F.layer_norm(cls, cls.shape, norm2.weight, norm2.bias, 1e-6)
        fc1, fc2 = block.mlp.fc1, block.mlp.fc2
        inner = F.gelu(F.linear(inner, fc1.weight, fc1.bias))
        cls = cls + F.linear(inner, fc2.weight, fc2.bias)
    return F.layer_norm(cls, cls.shape, pool.norm.weight, pool.norm.bias, 1e-6)


def _case(dims=12, images=2, count=9, k=4, masked=True):
    g = torch.Generator().manual_seed(0)
    tokens = torch.randn(images, count, dims, generator=g)
    index = torch.stack(
        [torch.randperm(count, generator=g)[:k] for _ in range(images * count)]
    ).view(images, count, k)
    valid = None
    if masked:
        valid = torch.rand(images, count, k, generator=g) > 0.4
        valid[..., 0] = True
    return tokens, index, valid


def _near(tokens, index, valid, image, patch):
    """Tokens of the neighbours that exist, one after the other."""
    found = [
        tokens[image, int(n)]
        for slot, n in enumerate(index[image, patch])
        if valid is None or valid[image, patch, slot]
    ]
    return torch.stack(found)


def _close(got, want):
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('depth', [1, 2, 3])
@pytest.mark.parametrize('heads', [1, 3])
@pytest.mark.parametrize('k,masked', [(1, False), (4, False), (4, True)])
def test_aggregate__equals_a_sequence_for_each_patch(depth, heads, k, masked):
    pool = _pool(heads=heads, depth=depth)
    tokens, index, valid = _case(k=k, masked=masked)
    upstream = torch.randn(2, 9, 12, generator=torch.Generator())
    leaf = tokens.clone().requires_grad_()
    got = pool.aggregate(leaf, index, valid)
    (got * upstream).sum().backward()
    own = {n: p.grad for n, p in pool.named_parameters()}
    pool.zero_grad()

    pool.double()
    plain = tokens.double().requires_grad_()
    rows = [
        _summary(pool, _near(plain, index, valid, image, patch), heads)
        for image in range(2)
        for patch in range(9)
    ]
    want = torch.stack(rows).view(2, 9, 12)
    _close(got, want.detach())
    (want * upstream.double()).sum().backward()
    _close(leaf.grad, plain.grad)
    for name, parameter in pool.named_parameters():
        _close(own[name], parameter.grad)


@pytest.mark.parametrize('depth', [1, 2, 3])
@pytest.mark.parametrize('heads', [1, 3])
@pytest.mark.parametrize('count', [1, 9])
def test_forward__equals_the_formulas(depth, heads, count):
    pool = _pool(heads=heads, depth=depth)
    tokens = _case(count=count, k=1)[0]
    upstream = torch.randn(2, 12)
    leaf = tokens.clone().requires_grad_()
    got = pool(leaf)
    (got * upstream).sum().backward()
    own = {n: p.grad for n, p in pool.named_parameters()}
    pool.zero_grad()

    pool.double()
    plain = tokens.double().requires_grad_()
    want = torch.stack([_summary(pool, image, heads) for image in plain])
    _close(got, want.detach())
    (want * upstream.double()).sum().backward()
    _close(leaf.grad, plain.grad)
    for name, parameter in pool.named_parameters():
        _close(own[name], parameter.grad)


def test_aggregate__all_tokens_of_an_image_equal_forward():
    pool = _pool()
    tokens = _case()[0]
    everything = torch.arange(9).expand(2, 9, 9)
    want = pool(tokens)[:, None].expand(2, 9, 12)
    torch.testing.assert_close(
        pool.aggregate(tokens, everything), want, rtol=1e-4, atol=1e-5
    )


def test_aggregate__one_patch_of_one_image():
    """Shapes that look like the shared query of the first block."""
    pool = _pool()
    tokens = torch.randn(1, 1, 12)
    index = torch.zeros(1, 1, 1, dtype=torch.long)
    torch.testing.assert_close(
        pool.aggregate(tokens, index)[:, 0], pool(tokens)
    )


def test_aggregate__uniform_attention_is_the_mean_of_values():
    """Zero queries, k = 8, inner patch: class vector and 8 tokens."""
    pool = _pool(depth=1)
    attn, norm = pool.blocks[0].attn, pool.blocks[0].norm1
    torch.nn.init.zeros_(attn.q.weight)
    torch.nn.init.zeros_(attn.q.bias)
    tokens = torch.randn(1, 9, 12)
    ring = torch.tensor([n for n in range(9) if n != 4])
    index = ring.expand(1, 9, 8)
    flat = norm(tokens), index
    got = attn.gathered(norm(pool.cls_token), *flat, None)[0, 4]
    both = torch.cat((norm(pool.cls_token)[0], norm(tokens[0, ring])))
    want = attn.proj(sum(attn.v(row) for row in both) / 9)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_aggregate__images_do_not_mix_and_the_patch_itself_does_not_count():
    pool = _pool()
    tokens, index, valid = _case()
    base = pool.aggregate(tokens, index, valid)
    other = tokens.clone()
    other[1] = torch.randn(9, 12)
    changed = pool.aggregate(other, index, valid)
    torch.testing.assert_close(changed[0], base[0], rtol=0, atol=1e-6)
    assert (changed[1] - base[1]).abs().max() > 0.1
    other = tokens.clone()
    other[0, 3] = torch.randn(12)
    moved = (pool.aggregate(other, index, valid) - base)[0].abs().amax(1)
    used = ((index[0] == 3) & valid[0]).any(dim=1)
    assert torch.equal(moved > 1e-4, used)
    assert used.any() and not used.all()


def test_aggregate__invalid_neighbours_leave_no_trace():
    pool = _pool()
    tokens, index, valid = _case()
    base = pool.aggregate(tokens, index, valid)
    other = torch.where(valid, index, (index + 1) % 9)
    assert torch.equal(pool.aggregate(tokens, other, valid), base)


@pytest.mark.parametrize('masked', [False, True])
def test_average__equals_loops(masked):
    pool = _pool()
    tokens, index, valid = _case(masked=masked)
    got = pool.average(tokens, index, valid)
    for image in range(2):
        for patch in range(9):
            near = _near(tokens, index, valid, image, patch)
            want = pool.norm(sum(near) / len(near))
            torch.testing.assert_close(
                got[image, patch], want, rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize('dtype', HALF)
@pytest.mark.parametrize('masked', [False, True])
def test_autocast__stays_near_float32(dtype, masked):
    """About twenty roundings a path; weights of the usual start."""
    torch.manual_seed(0)
    pool = ClassAttentionPooling(32, 4)
    tokens, index, valid = _case(32, masked=masked)
    want = pool(tokens), pool.aggregate(tokens, index, valid)
    with torch.autocast('cpu', dtype=dtype):
        got = pool(tokens), pool.aggregate(tokens, index, valid)
    eps = torch.finfo(dtype).eps
    for half, full in zip(got, want):
        assert torch.isfinite(half).all()
        error = (half.float() - full).norm() / full.norm()
        assert error < 8 * eps


def test_state_dict__names_are_the_official_ones():
    names = set(ClassAttentionPooling(12, 3).state_dict())
    want = {'cls_token', 'norm.weight', 'norm.bias'}
    for block in range(2):
        for part in [
            'norm1',
            'norm2',
            'attn.q',
            'attn.k',
            'attn.v',
            'attn.proj',
            'mlp.fc1',
            'mlp.fc2',
        ]:
            want |= {
                f'blocks.{block}.{part}.{kind}' for kind in ('weight', 'bias')
            }
    assert names == want


def test_init__size_and_start():
    pool = ClassAttentionPooling(384, 6)
    total = sum(p.numel() for p in pool.parameters())
    assert total / 1e6 == pytest.approx(3.55, abs=0.005)
    for name, parameter in pool.named_parameters():
        if 'norm' in name:
            assert (parameter == float(name.endswith('weight'))).all()
        elif name.endswith('bias'):
            assert (parameter == 0).all()
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize('heads', [0, 5])
def test_init__heads_that_do_not_divide(heads):
    with pytest.raises(ValueError, match=f'num_heads={heads} does not'):
        ClassAttentionPooling(12, heads)
