import numpy as np
import pytest

from mmdense.datasets.depth.diw import DIW
from mmdense.datasets.depth.errors import DepthFileError, MissingDepthError

LINES = [
    './DIW_test/a.thumb',
    '1,2,300,400,>,400,300',
    './DIW_test/b.thumb',
    '10,20,30,40,<,64,48',
]


def write(root, lines=LINES):
    (root / 'DIW_test').mkdir(exist_ok=True)
    (root / 'DIW_test' / 'a.thumb').write_bytes(b'')
    (root / 'DIW_test.csv').write_text('\n'.join(lines) + '\n')
    return str(root)


def test_diw__pairs_from_zero(tmp_path):
    data = DIW(write(tmp_path), test_mode=True)
    assert len(data) == 2
    info = data.get_data_info(0)
    assert info['img_path'] == str(tmp_path / 'DIW_test' / 'a.thumb')
    assert info['dataset_name'] == 'diw'
    np.testing.assert_array_equal(info['depth_pairs'], [[0, 1, 299, 399, 1]])
    assert info['depth_pairs_size'] == (300, 400)
    second = data.get_data_info(1)
    np.testing.assert_array_equal(second['depth_pairs'], [[9, 19, 29, 39, -1]])


@pytest.mark.parametrize(
    'line',
    [
        '1,2,300,400,>,400',
        '1,2,300,400,=,400,300',
        '1,2,301,400,>,400,300',
        '0,2,300,400,>,400,300',
        'a,2,300,400,>,400,300',
    ],
)
def test_diw__bad_line_is_named(line, tmp_path):
    root = write(tmp_path, [*LINES[:2], LINES[2], line])
    with pytest.raises(DepthFileError, match=r'DIW_test\.csv, line 4'):
        DIW(root)


def test_diw__missing_files_are_named(tmp_path):
    with pytest.raises(MissingDepthError, match=r'DIW_test\.csv'):
        DIW(str(tmp_path))
    root = write(tmp_path, LINES[:3])
    with pytest.raises(DepthFileError, match='3 lines'):
        DIW(root)
    write(tmp_path, LINES[2:])
    with pytest.raises(MissingDepthError, match=r'b\.thumb'):
        DIW(root)
