import pytest
import torch
import torch.nn.functional as F

from mmdense.models.necks import TokenProjector


def _inputs():
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, generator=g), torch.randn(2, 5, 6, generator=g)


@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('with_cp', [True, False])
def test_forward__equals_plain_layers(share, with_cp):
    neck = TokenProjector(6, 8, 4, share_projector=share, with_cp=with_cp)
    cls, patches = _inputs()
    cls.requires_grad_()
    z, p = neck(cls, patches)

    def plain(mlp, x):
        first, _, second, _, third = mlp
        x = F.gelu(x @ first.weight.t() + first.bias)
        x = F.gelu(x @ second.weight.t() + second.bias)
        return x @ third.weight.t() + third.bias

    local = neck.projector if share else neck.local_projector
    torch.testing.assert_close(z, plain(neck.projector, cls))
    torch.testing.assert_close(p, plain(local, patches))
    (z.sum() + p.sum()).backward()
    assert all(x.grad is not None for x in neck.parameters())


def test_init__counts_and_values():
    shared = TokenProjector(192)
    shared.init_weights()
    expected = 192 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 256 + 256
    assert sum(p.numel() for p in shared.parameters()) == expected
    apart = TokenProjector(192, share_projector=False)
    assert sum(p.numel() for p in apart.parameters()) == 2 * expected
    weight = shared.projector[2].weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not shared.projector[2].bias.any()


@pytest.mark.parametrize('norm,kind', [('bn', 'BatchNorm1d'), ('ln', 'Layer')])
def test_norm__normalises_hidden_tokens(norm, kind):
    neck = TokenProjector(6, 8, 4, norm=norm)
    assert any(kind in type(m).__name__ for m in neck.modules())
    z, p = neck(*_inputs())
    assert z.shape == (2, 4) and p.shape == (2, 5, 4)


def test_num_layers__one_is_linear():
    neck = TokenProjector(6, out_channels=4, num_layers=1)
    cls, patches = _inputs()
    z, _ = neck(cls, patches)
    torch.testing.assert_close(z, neck.projector[0](cls))


def test_init__rejects():
    with pytest.raises(ValueError, match='norm'):
        TokenProjector(6, norm='gn')
    with pytest.raises(ValueError, match='num_layers'):
        TokenProjector(6, num_layers=0)
