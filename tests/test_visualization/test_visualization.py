import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from mmdense.visualization import (
    Report,
    color_labels,
    curve_png,
    image_png,
    read_scalars,
    series,
)


def _decode(png):
    return np.array(Image.open(io.BytesIO(png)).convert('RGB'))


def test_image_png__round_trip():
    image = np.random.RandomState(0).randint(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(_decode(image_png(image)), image)


def test_color_labels__palette_and_ignored():
    labels = np.array([[0, 1], [255, 1]])
    out = color_labels(labels, [[1, 2, 3], [4, 5, 6]])
    assert out[0, 0].tolist() == [1, 2, 3]
    assert out[1, 0].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r'\[2\] have no colour'):
        color_labels(np.array([[2]]), [[1, 2, 3], [4, 5, 6]])


def test_curve_png__draws_every_curve():
    empty = _decode(curve_png({'a': ([], [])}, 't', 'x'))
    full = _decode(curve_png({'a': ([0, 1], [0, 1])}, 't', 'x'))
    assert empty.shape == full.shape
    assert (empty != full).any()


def _write(folder, lines):
    path = folder / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(lines))


def test_read_scalars__restarts_are_put_together(tmp_path):
    def line(step, loss):
        return json.dumps({'loss': loss, 'step': step, 'iter': step})

    _write(
        tmp_path / '20260101_000000',
        [line(1, 3.0), line(2, 2.0), json.dumps({'mIoU': 5, 'step': 1})],
    )
    _write(
        tmp_path / '20260101_000100',
        [line(2, 2.5), line(3, 1.0), '{"loss": 0.5, "st'],
    )
    lines = read_scalars(tmp_path)
    assert series(lines, 'loss') == ([1, 2, 3], [3.0, 2.5, 1.0])
    assert series(lines, 'mIoU') == ([1], [5])
    assert read_scalars(tmp_path / 'nothing') == []


def _picture(value):
    return image_png(np.full((2, 2, 3), value, np.uint8))


def test_report__is_self_contained_and_escaped(tmp_path):
    report = Report('a < b')
    report.heading('x & y')
    report.table(['name', 'value'], [['<script>', 1.5]])
    report.images([_picture(10)], ['one'])
    other = Report('')
    other.grid(['in', 'out'], [[_picture(20), _picture(30)]])
    report.extend(other)
    path = report.write(tmp_path)
    page = path.read_text()
    assert '<script>' not in page and '&lt;script&gt;' in page
    assert 'a &lt; b' in page
    data = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    values = [_decode(base64.b64decode(d))[0, 0, 0] for d in data]
    assert values == [10, 20, 30]
    assert not re.search(r'src="(?!data:)', page)


def test_report__markdown_links_lead_to_the_same_pictures(tmp_path):
    report = Report('t')
    report.images([_picture(10)], ['one'])
    other = Report('')
    other.grid(['in', 'out'], [[_picture(20), _picture(30)]])
    report.extend(other)
    report.write(tmp_path)
    text = (tmp_path / 'report.md').read_text()
    links = re.findall(r'\]\((report_files/\d+\.png)\)', text)
    values = [
        _decode((tmp_path / link).read_bytes())[0, 0, 0] for link in links
    ]
    assert values == [10, 20, 30]
    # a second report leaves no picture of the first behind
    Report('u').write(tmp_path)
    assert list((tmp_path / 'report_files').glob('*')) == []


def test_report__legend_has_every_colour(tmp_path):
    report = Report('t')
    report.legend(['wall', 'a<b'], [[1, 2, 3], [255, 0, 16]])
    page = report.write(tmp_path).read_text()
    assert 'rgb(1,2,3)' in page and 'a&lt;b' in page
    text = (tmp_path / 'report.md').read_text()
    assert 'wall #010203, a<b #ff0010' in text
