import pytest
import torch

from mmdense.evaluation.metrics import DepthMetric
from mmdense.utils.errors import UserValueError


def _sample():
    depth = torch.rand(1, 4, 5) + 1
    return dict(
        img_path='a.jpg',
        pred_depth_map=dict(data=depth * 1.1),
        gt_depth_map=dict(data=depth),
    )


def test_csv_file__that_cannot_be_is_refused_at_once(tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder').mkdir()
    for path, reason in (
        (tmp_path / 'folder', 'it is a folder'),
        (tmp_path / 'file' / 'new' / 'a.csv', 'file is no folder'),
    ):
        with pytest.raises(UserValueError, match=reason) as caught:
            DepthMetric(csv_file=str(path))
        assert f'csv_file={str(path)!r}' in str(caught.value)


def test_csv_file__folder_that_may_not_be_written(tmp_path, monkeypatch):
    from mmdense.evaluation.metrics import row_metric

    monkeypatch.setattr(row_metric.os, 'access', lambda *_: False)
    with pytest.raises(UserValueError, match='may not be written to'):
        DepthMetric(csv_file=str(tmp_path / 'a.csv'))


def test_csv_file__lost_later_costs_no_scores(tmp_path, monkeypatch):
    path = tmp_path / 'a.csv'
    metric = DepthMetric(csv_file=str(path))
    path.mkdir()
    metric.process(None, [_sample()])
    said = []
    monkeypatch.setattr(metric, '_warn', said.append)
    scores = metric.evaluate(1)
    assert scores['depth/abs_rel'] == pytest.approx(0.1, abs=1e-5)
    assert f'csv_file={str(path)!r} was not written' in said[0]
