import pytest
import torch
import torch.nn.functional as F

from mmdense.models.utils.original_size import to_original_size

MAPS = torch.arange(2 * 6 * 8, dtype=torch.float32).reshape(1, 2, 6, 8)


def test_original_size__padding_is_left_right_top_bottom():
    meta = dict(padding_size=(1, 2, 3, 0), ori_shape=(3, 5))
    got = to_original_size(MAPS, meta)
    assert torch.equal(got, MAPS[..., 3:6, 1:6])
    meta['img_padding_size'] = (0, 3, 0, 3)
    assert torch.equal(to_original_size(MAPS, meta), MAPS[..., :3, :5])


@pytest.mark.parametrize(
    'direction,dims',
    [('horizontal', [3]), ('vertical', [2]), ('diagonal', [2, 3])],
)
def test_original_size__mirroring(direction, dims):
    meta = dict(flip=True, flip_direction=direction, ori_shape=(6, 8, 3))
    assert torch.equal(to_original_size(MAPS, meta), MAPS.flip(dims))
    meta['flip'] = False
    assert torch.equal(to_original_size(MAPS, meta), MAPS)


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('corners', [True, False])
def test_original_size__resizing(mode, corners):
    got = to_original_size(
        MAPS.bfloat16(), dict(ori_shape=(9, 5)), mode, corners
    )
    expected = F.interpolate(
        MAPS.bfloat16().float(), (9, 5), mode=mode, align_corners=corners
    )
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)
