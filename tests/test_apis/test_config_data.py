"""Strictness of test sets."""

import pytest
from mmengine.config import Config

import mmdense  # noqa: F401
from mmdense.apis.config_data import be_strict

pytest.importorskip('mmseg')


def test_be_strict__depth_sets_of_tests_alone():
    def loader(**dataset):
        return dict(batch_size=1, dataset=dataset)

    folder = dict(type='mmdense.DepthFolder', data_root='x')
    mixed = dict(
        type='mmdense.MixedDepth',
        datasets=[
            dict(type='NYUDepth'),
            dict(folder, strict=False),
            dict(type='RepeatDataset', times=2, dataset=folder),
        ],
    )
    cfg = Config(
        dict(
            default_scope='mmdense',
            val_dataloader=loader(**folder),
            test_dataloader=loader(**mixed),
        )
    )
    be_strict(cfg)
    first, asked, repeated = cfg.test_dataloader.dataset.datasets
    assert first.strict is True
    assert asked.strict is False
    assert repeated.dataset.strict is True
    assert 'strict' not in repeated
    assert 'strict' not in cfg.test_dataloader.dataset
    assert 'strict' not in cfg.val_dataloader.dataset
    cfg.test_dataloader = loader(type='mmseg.ADE20KDataset')
    be_strict(cfg)
    assert 'strict' not in cfg.test_dataloader.dataset
    be_strict(Config(dict(default_scope='mmdense')))
