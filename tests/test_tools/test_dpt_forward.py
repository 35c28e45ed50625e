import json
import sys

import pytest
import torch

from mmdense.testing.launch import ROOT

sys.path.insert(0, str(ROOT / 'tools' / 'benchmarks'))

import dpt_forward
import dpt_worker


@pytest.fixture
def small(monkeypatch):
    """A DPT whose passes take milliseconds."""
    arch = dict(
        embed_dims=64, num_layers=12, num_heads=1, feedforward_channels=64
    )
    monkeypatch.setitem(
        dpt_forward.SIZES,
        'base',
        dict(arch=arch, width=64, levels=(8, 8, 16, 16)),
    )
    config = dpt_forward.model_config

    def shrunk(name, img_size=64):
        monkeypatch.setitem(dpt_forward.TAPS, 'small', (2, 5, 8, 11))
        size = dict(dpt_forward.SIZES['base'], arch='small')
        monkeypatch.setitem(dpt_forward.SIZES, 'base', size)
        found = config(name, img_size)
        found['backbone']['arch'] = arch
        found['decode_head']['channels'] = 16
        return found

    monkeypatch.setattr(dpt_forward, 'model_config', shrunk)


def _args(*more):
    argv = ['--models', 'base', '--size', '64', '--runs', '2', *more]
    return dpt_forward.parse_args(argv)


def test_measure__our_side_alone(small, capsys):
    report = dpt_forward.measure('base', _args('--warmup', '1'))
    row = report['rows']['ours']
    assert 0 < row['wall_min'] <= row['wall_median']
    assert 0 < row['cpu_min'] <= row['cpu_median']
    assert 0 <= row['peak'] < row['total']
    assert 'difference' not in report
    dpt_forward.show('base', report)
    assert capsys.readouterr().out.startswith('base    mmdense')


def test_prepare__both_sides_have_the_same_weights(small, tmp_path):
    path = dpt_forward.prepare('base', _args(), tmp_path)
    settings = json.loads(path.read_text())
    ours = torch.load(settings['weights'], weights_only=True)
    peer = torch.load(settings['hf_weights'], weights_only=True)
    assert torch.equal(
        peer['neck.convs.2.weight'],
        ours['decode_head.decoder.lateral.2.weight'],
    )
    assert settings['hf_config']['hidden_size'] == 64
    # a unit of the coarsest block that has no effect is made for the peer
    assert (
        'neck.fusion_stage.layers.0.residual_layer1.convolution1.bias' in peer
    )
    side = dpt_worker.Side('ours', {**settings, 'threads': 1})
    result = side.run()
    assert result['wall'] > 0 and side.out.shape == (1, 64, 64)
    assert (side.out > 0).all() and side.out.std() > 0


def test_process__of_a_python_without_the_peer(small, tmp_path):
    path = dpt_forward.prepare('base', _args(), tmp_path)
    with pytest.raises(SystemExit, match='transformers has ended.*No module'):
        dpt_forward.Process(sys.executable, 'peer', path)


@pytest.mark.parametrize('more', [('--size', '100'), ('--runs', '0')])
def test_parse_args__refuses(more, capsys):
    with pytest.raises(SystemExit):
        dpt_forward.parse_args(list(more))
    assert 'multiples of 32' in capsys.readouterr().err
