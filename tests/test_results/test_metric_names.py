import json
import math

import numpy as np
import pytest

from mmdense.results.metric_names import (
    convert,
    finite,
    metrics_of_sets,
    name_metrics,
    primary,
    table_name,
)
from mmdense.results.published import published_rows


def test_names__of_coco_are_fractions_times_100():
    found = name_metrics(
        {
            'coco/bbox_mAP': 0.412,
            'coco/bbox_mAP_50': 0.631,
            'coco/segm_mAP_75': 0.395,
            'coco/segm_mAP_s': 0.171,
        }
    )
    assert found.values == {
        'bbox_AP': 41.2,
        'bbox_AP50': 63.1,
        'mask_AP75': 39.5,
        'mask_APs': 17.1,
    }
    assert set(found.units.values()) == {'points'}
    assert found.raw['coco/bbox_mAP'] == 0.412
    assert primary(found.values) == 'bbox_AP'


def test_names__of_voc_and_cityscapes():
    found = name_metrics(
        {
            'pascal_voc/mAP': 0.8157,
            'pascal_voc/AP50': 0.816,
            'cityscapes/mAP': 0.38,
            'cityscapes/AP@50': 0.6,
        }
    )
    assert found.values == {
        'bbox_AP50': 81.57,
        'mask_AP': 38.0,
        'mask_AP50': 60.0,
    }


def test_names__of_mmseg_are_percent_already():
    found = name_metrics({'aAcc': 80.1, 'mIoU': 42.8, 'mAcc': 53.0})
    assert found.values == {'aAcc': 80.1, 'mIoU': 42.8, 'mAcc': 53.0}
    assert found.units['mIoU'] == '%'


def test_names__of_depth():
    found = name_metrics(
        {
            'nyu_eigen/abs_rel': 0.122,
            'nyu_eigen/rmse': 0.549,
            'nyu_eigen/d1': 0.862,
            'nyu_eigen/images': 654,
        }
    )
    assert found.values == {'AbsRel': 0.122, 'RMSE': 0.549, 'delta1': 0.862}
    assert found.units == {
        'AbsRel': 'ratio',
        'RMSE': 'm',
        'delta1': 'fraction',
    }
    assert found.raw['nyu_eigen/images'] == 654


def test_names__not_finite_is_none_and_told():
    found = name_metrics(
        {'mIoU': math.nan, 'aAcc': math.inf, 'mAcc': 1.0, 'table': [1, 2]}
    )
    assert found.values == {'mIoU': None, 'aAcc': None, 'mAcc': 1.0}
    assert found.not_finite == ['mIoU', 'aAcc']
    assert 'table' not in found.raw
    json.dumps(found._asdict(), allow_nan=False)
    assert finite('x') is None


def test_names__units_are_those_of_the_tables():
    raw = [
        *('mIoU', 'aAcc', 'mAcc', 'coco/bbox_mAP', 'coco/bbox_mAP_50'),
        *('coco/bbox_mAP_75', 'coco/segm_mAP', 'pascal_voc/AP50'),
        *('depth/abs_rel', 'depth/rmse', 'depth/d1', 'depth/d2', 'depth/d3'),
        *('depth/sq_rel', 'depth/rmse_log', 'depth/log10', 'depth/silog'),
    ]
    for name in raw:
        metric, unit, _ = table_name(name)
        rows = published_rows(metric=metric)
        assert rows, metric
        assert {row.unit for row in rows} == {unit}, metric


def test_convert__percent_fraction_points():
    assert convert(0.5, 'fraction', '%') == pytest.approx(50)
    assert convert(41.2, 'points', '%') == pytest.approx(41.2)
    assert convert(41.2, '%', 'fraction') == pytest.approx(0.412)
    assert convert(1.5, 'm', 'm') == 1.5
    assert convert(1.5, 'm', '%') is None


def test_finite__single_precision_keeps_its_digits():
    assert finite(np.float32(3.46)) == 3.46
    assert finite(np.float32(0.1)) == 0.1
    assert finite(np.float64(1 / 3)) == 1 / 3
    assert finite(np.float32('nan')) is None
    assert finite(np.float32('-inf')) is None


def test_names__of_relative_depth():
    found = name_metrics(
        {
            'zero_shot_kitti/d1_error': 11.56,
            'zero_shot_kitti/d1': 0.8844,
            'whdr/whdr': 10.82,
        }
    )
    assert found.values == {
        'delta1_error': 11.56,
        'delta1': 0.8844,
        'WHDR': 10.82,
    }
    assert found.units['WHDR'] == found.units['delta1_error'] == '%'


def test_sets__prefix_or_middle_of_a_name_and_no_part_of_a_word():
    raw = {
        'affine/mean/x': 1,
        'affine/nyu/x': 2,
        'affine/nyu_test/x': 3,
        'whdr/whdr': 4,
        'whdr/pairs': 5,
        'other': 6,
    }
    words = {'mean of three': 'mean', 'NYU': 'nyu', 'DIW': 'whdr', 'T': 'tum'}
    assert metrics_of_sets(raw, words) == {
        'mean of three': {'affine/mean/x': 1},
        'NYU': {'affine/nyu/x': 2},
        'DIW': {'whdr/whdr': 4, 'whdr/pairs': 5},
    }


@pytest.mark.parametrize('metric', ['WHDR', 'delta1_error', 'params'])
def test_names__of_dpt_tables_have_the_units_of_the_tables(metric):
    words = {'delta1_error': 'd1_error'}
    found = table_name(f'x/{words.get(metric, metric.lower())}')
    units = {row.unit for row in published_rows('DPT', metric=metric)}
    assert found[0] == metric
    assert units == {found[1]}
