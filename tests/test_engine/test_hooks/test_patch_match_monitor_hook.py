import logging
import types

import pytest
import torch
from mmengine.logging import MessageHub

from mmdense.engine.hooks import PatchMatchMonitorHook


class _Model(torch.nn.Module):
    """Matches by a script; keeps what it was given."""

    def __init__(self, looks):
        super().__init__()
        # that of SelfPatch: how many of its crops are global
        self.method = types.SimpleNamespace(num_global=2)
        self.looks = list(looks)
        self.seen = []

    def data_preprocessor(self, data, training):
        assert not training
        return {'inputs': [view.float() for view in data['inputs']]}

    def match(self, inputs):
        assert not torch.is_grad_enabled()
        self.seen.append(inputs)
        return self.looks.pop(0)


def _runner(model, iteration=0):
    messages = []
    logger = logging.Logger('test')
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    return types.SimpleNamespace(
        iter=iteration,
        model=model,
        logger=logger,
        messages=messages,
        message_hub=MessageHub('test'),
    )


def _batch(images=4):
    return {
        'inputs': [
            torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8)
            for side in (8, 8, 4)
        ]
    }


def _run(hook, runner, batches):
    for batch in batches:
        hook.before_train_iter(runner, 0, batch)
        hook.after_train_iter(runner, 0, batch)
        runner.iter += 1


def _logged(runner):
    scalars = runner.message_hub.log_scalars
    if 'train/match_change' not in scalars:
        return None
    return scalars['train/match_change'].data[0].tolist()


def _index(patches=10, k=2, sequences=2):
    order = torch.arange(k).expand(sequences, patches, k)
    return order.clone()


def test_after_train_iter__share_since_the_previous_look():
    start = [_index()]
    some = [_index()]
    some[0][0, :3] += 5  # three of twenty
    swapped = [some[0].flip(-1)]
    model = _Model([start, some, swapped])
    runner = _runner(model)
    hook = PatchMatchMonitorHook(interval=2, num_images=3)
    hook.before_train(runner)
    batches = [_batch() for _ in range(4)]
    _run(hook, runner, batches)
    assert _logged(runner) == pytest.approx([3 / 20, 0])
    # always the global crops of the first three images of the first batch
    assert len(model.seen) == 3
    for seen in model.seen:
        assert len(seen) == 2
        for view, wanted in zip(seen, batches[0]['inputs']):
            assert torch.equal(view, wanted[:3].float())


def test_after_train_iter__crops_weigh_by_their_patches():
    before = [_index(patches=9), _index(patches=1)]
    after = [_index(patches=9), _index(patches=1) + 3]
    runner = _runner(_Model([before, after]))
    hook = PatchMatchMonitorHook(interval=1)
    hook.before_train(runner)
    _run(hook, runner, [_batch()])
    assert _logged(runner) == pytest.approx([2 / 20])


def _checkpoint(hook, runner, tmp_path):
    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, tmp_path / 'e.pth')
    return torch.load(tmp_path / 'e.pth', weights_only=True)


def test_resume__goes_on_with_the_same_images_and_choice(tmp_path):
    one, two, three = [_index()], [_index() + 1], [_index() + 1]
    three[0][0, 0] = 9
    first = _runner(_Model([one, two]))
    hook = PatchMatchMonitorHook(interval=1)
    hook.before_train(first)
    batch = _batch()
    _run(hook, first, [batch])
    stored = _checkpoint(hook, first, tmp_path)

    resumed = PatchMatchMonitorHook(interval=1)
    model = _Model([three])
    second = _runner(model, iteration=1)
    resumed.after_load_checkpoint(second, stored)
    resumed.before_train(second)
    _run(resumed, second, [_batch()])
    assert _logged(second) == pytest.approx([1 / 20])
    assert torch.equal(model.seen[0][0], batch['inputs'][0].float())


def test_load__weights_alone_bring_no_images(tmp_path):
    hook = PatchMatchMonitorHook(interval=1)
    first = _runner(_Model([[_index()], [_index()]]))
    hook.before_train(first)
    _run(hook, first, [_batch()])
    stored = _checkpoint(hook, first, tmp_path)
    fresh = PatchMatchMonitorHook(interval=1)
    model = _Model([[_index()], [_index()]])
    runner = _runner(model)
    fresh.after_load_checkpoint(runner, stored)
    fresh.before_train(runner)
    batch = _batch()
    _run(fresh, runner, [batch])
    assert torch.equal(model.seen[0][0], batch['inputs'][0].float())


def test_resume__another_matching_starts_anew():
    hook = PatchMatchMonitorHook(interval=1)
    runner = _runner(_Model([[_index(k=2)], [_index(k=3)], [_index(k=3)]]))
    hook.before_train(runner)
    _run(hook, runner, [_batch()])
    assert _logged(runner) is None
    _run(hook, runner, [_batch()])
    assert _logged(runner) == [0]


def test_before_train__model_without_matching_is_reported():
    hook = PatchMatchMonitorHook(interval=1)
    runner = _runner(torch.nn.Linear(2, 2))
    hook.before_train(runner)
    _run(hook, runner, [_batch()] * 2)
    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    assert len(runner.messages) == 1 and 'SelfPatch' in runner.messages[0]
    assert checkpoint == {} and _logged(runner) is None


@pytest.mark.parametrize('name', ['interval', 'num_images'])
def test_init__values_have_to_be_positive(name):
    with pytest.raises(ValueError, match=name):
        PatchMatchMonitorHook(**{name: 0})
