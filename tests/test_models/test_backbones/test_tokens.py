import pytest
import torch

from mmdense.models.backbones import (
    SwinTransformer,
    Tokens,
    VisionTransformer,
)
from mmdense.models.backbones.tokens import as_tokens

ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)


def test_as_tokens__map_row_by_row():
    feature = torch.randn(2, 5, 3, 4)
    tokens = as_tokens(feature)
    assert tokens.cls is None and tokens.hw == (3, 4)
    assert tokens.patches.shape == (2, 12, 5)
    for y in range(3):
        for x in range(4):
            assert torch.equal(
                tokens.patches[:, 4 * y + x], feature[:, :, y, x]
            )
    assert torch.equal(tokens.featmap, feature)


def test_as_tokens__tokens_stay():
    tokens = Tokens(None, torch.randn(2, 12, 5), (3, 4))
    assert as_tokens(tokens) is tokens


def test_pooled__class_token_or_mean_of_the_patches():
    patches, cls = torch.randn(2, 12, 5), torch.randn(2, 5)
    assert Tokens(cls, patches, (3, 4)).pooled is cls
    mean = sum(patches[:, i] for i in range(12)) / 12
    torch.testing.assert_close(Tokens(None, patches, (3, 4)).pooled, mean)


@pytest.mark.parametrize('with_cls', [False, True])
def test_as_tokens__vit_gives_the_same_as_its_map(with_cls):
    images = torch.randn(2, 3, 24, 32)
    options = dict(
        arch=ARCH, img_size=32, patch_size=8, with_cls_token=with_cls
    )
    torch.manual_seed(0)
    vit = VisionTransformer(**options, out_type='tokens').eval()
    torch.manual_seed(0)
    maps = VisionTransformer(**options, out_type='featmap').eval()
    got, want = as_tokens(vit(images)[-1]), as_tokens(maps(images)[-1])
    assert got.hw == want.hw == (3, 4)
    torch.testing.assert_close(got.patches, want.patches)
    assert (got.cls is not None) == with_cls and want.cls is None


def test_as_tokens__swin():
    swin = SwinTransformer(
        arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
        img_size=32,
        window_size=4,
    ).eval()
    feature = swin(torch.randn(2, 3, 32, 64))[-1]
    tokens = as_tokens(feature)
    assert tokens.hw == (4, 8) and tokens.patches.shape == (2, 32, 16)
    assert all(isinstance(side, int) for side in tokens.hw)


@pytest.mark.parametrize(
    'features,told',
    [
        (torch.zeros(2, 5), r'\(2, 5\)'),
        (torch.zeros(2, 12, 5), r'\(2, 12, 5\)'),
        ((torch.zeros(2, 5, 3, 4),), 'tuple'),
        (None, 'NoneType'),
    ],
)
def test_as_tokens__anything_else_is_explained(features, told):
    with pytest.raises(ValueError, match=told) as caught:
        as_tokens(features)
    assert "out_type='tokens'" in str(caught.value)
