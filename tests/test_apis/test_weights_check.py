from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel, BaseTTAModel
from torch import nn

from mmdense.apis.weights_check import WeightsCheckHook, weights_fit
from mmdense.utils.errors import UserValueError


def _model():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.decode_head = nn.Conv2d(4, 2, 1)
    model.auxiliary_head = nn.Conv2d(4, 2, 1)
    model.ema_backbone = nn.Conv2d(3, 4, 1)
    return model


def _check(model, checkpoint):
    cfg = SimpleNamespace(filename='c.py')
    runner = SimpleNamespace(model=model, _load_from='w.pth', cfg=cfg)
    WeightsCheckHook().after_load_checkpoint(runner, checkpoint)


def test_fit__all_weights_with_and_without_prefix():
    for prefix in ('', 'module.'):
        state = _model().state_dict()
        state = {prefix + key: value for key, value in state.items()}
        model = _model()
        fit = weights_fit(model, {'state_dict': state})
        # two convolutions and a normalisation with its statistics
        assert fit == (8, [], [])
        key = 'decode_head.weight'
        assert torch.equal(model.state_dict()[key], state[prefix + key])
        _check(model, state)


def test_fit__what_a_test_never_needs_does_not_count():
    state = _model().state_dict()
    for key in list(state):
        if key.startswith(('auxiliary', 'ema')) or 'num_batches' in key:
            del state[key]
    _check(_model(), {'state_dict': state})
    # of other classes
    state['auxiliary_head.weight'] = torch.zeros(7, 4, 1, 1)
    _check(_model(), {'state_dict': state})


def test_check__missing_and_mismatched_weights_are_named():
    state = _model().state_dict()
    del state['backbone.1.running_mean'], state['backbone.0.bias']
    state['decode_head.weight'] = torch.zeros(5, 4, 1, 1)
    with pytest.raises(UserValueError) as caught:
        _check(_model(), {'state_dict': state})
    text = str(caught.value)
    assert 'w.pth does not fit the model of c.py' in text
    assert '2 of 8 weights are missing (backbone.0.bias, ' in text
    assert '1 of 8 weights have another shape (decode_head.weight)' in text


def test_check__another_file():
    with pytest.raises(UserValueError, match='the file holds a.b'):
        _check(_model(), {'state_dict': {'a.b': torch.zeros(1)}})


def test_check__inside_of_test_time_augmentation():
    class Augmented(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return data_samples_list

    class Plain(BaseModel):
        def __init__(self):
            super().__init__()
            self.decode_head = nn.Conv2d(1, 1, 1)

        def forward(self, inputs):
            return inputs

    model = Augmented(module=Plain())
    state = Plain().state_dict()
    _check(model, {'state_dict': state})
    with pytest.raises(UserValueError, match='1 of 2 weights are missing'):
        _check(model, {'decode_head.bias': state['decode_head.bias']})


def test_fit__keys_of_an_older_version_are_read():
    class Versioned(nn.Linear):
        _version = 2

        def _load_from_state_dict(self, state, prefix, meta, *rest):
            if meta.get('version') is None:
                state[f'{prefix}weight'] = state.pop(f'{prefix}matrix')
            super()._load_from_state_dict(state, prefix, meta, *rest)

    model = nn.Module()
    model.decode_head = Versioned(2, 2, bias=False)
    state = model.state_dict()
    assert weights_fit(model, {'state_dict': state}) == (1, [], [])
    old = {'decode_head.matrix': state['decode_head.weight']}
    assert weights_fit(model, old) == (1, [], [])
