"""The monitors in real, tiny trainings; they only look."""

import logging
import uuid

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from mmdense.utils.checkpoint import load_checkpoint_file

OUTPUTS = 64
INTERVAL, PATIENCE, WARMUP = 4, 3, 12


class _Patterns(Dataset):
    """Images of coloured squares, each with four noisy crops."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return self.images

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        small = torch.rand(3, 4, 4, generator=draw) * 255
        large = small.repeat_interleave(8, 1).repeat_interleave(8, 2)
        crops = []
        for crop in [large, large, large[:, 8:24, 8:24], large[:, :16, :16]]:
            noise = 15 * torch.randn(crop.shape, generator=draw)
            crops.append((crop + noise).clamp(0, 255).to(torch.uint8))
        return {'inputs': crops, 'data_samples': DataSample()}


def _head(outputs):
    return dict(
        type='mmdense.DINOHead',
        in_channels=32,
        out_channels=outputs,
        hid_channels=64,
        bottleneck_channels=32,
    )


def _dino(**loss):
    return dict(
        type='mmdense.DINO',
        data_preprocessor=dict(
            type='mmpretrain.SelfSupDataPreprocessor',
            mean=[127.5] * 3,
            std=[64.0] * 3,
        ),
        backbone=dict(
            type='mmdense.VisionTransformer',
            arch=dict(
                embed_dims=32,
                num_layers=2,
                num_heads=2,
                feedforward_channels=64,
            ),
            img_size=32,
            patch_size=8,
            out_type='tokens',
            with_cls_token=False,
            init_std=0.15,
            drop_path_rate=0.2,
        ),
        neck=_head(OUTPUTS),
        loss=dict(type='mmdense.DINOLoss', out_channels=OUTPUTS, **loss),
        teacher=dict(momentum=0.98, end_momentum=0.98),
    )


def _selfpatch():
    method = _dino()
    preprocessor = method.pop('data_preprocessor')
    method['backbone']['final_norm'] = False
    return dict(
        type='mmdense.SelfPatch',
        data_preprocessor=preprocessor,
        method=method,
        aggregation=dict(
            type='mmdense.ClassAttentionPooling', embed_dims=32, num_heads=2
        ),
        patch_head=_head(32),
        patch_loss=dict(type='mmdense.PatchDistillationLoss', out_channels=32),
        matching=dict(window=3, top_k=4),
    )


def _runner(work_dir, model, hooks, epochs, lr=1e-3, images=64, **options):
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=16,
            num_workers=0,
            dataset=_Patterns(images),
            sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            type='mmdense.OptimWrapper',
            optimizer=dict(type='AdamW', lr=lr),
            clip_grad=dict(type='per_tensor', max_norm=3.0),
        ),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=4),
            checkpoint=dict(type='CheckpointHook', interval=1),
        ),
        custom_hooks=[dict(type='mmdense.MomentumUpdateHook'), *hooks],
        default_scope='mmdense',
        randomness=dict(seed=0),
        experiment_name=uuid.uuid4().hex,
        **options,
    )
    runner.lines = []
    handler = logging.Handler()
    handler.emit = lambda record: runner.lines.append(record.getMessage())
    runner.logger.addHandler(handler)
    return runner


def _history(runner, name):
    return runner.message_hub.get_scalar(f'train/{name}').data[0].tolist()


# collapse -------------------------------------------------------------------


class _ZeroWeights(Hook):
    """Wrecks the network before an iteration, counted from 0."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            with torch.no_grad():
                for network in (runner.model, runner.model.teacher):
                    for weight in network.backbone.parameters():
                        weight.zero_()


def _collapse_hook():
    return dict(
        type='mmdense.CollapseMonitorHook',
        interval=INTERVAL,
        patience=PATIENCE,
        warmup=WARMUP,
    )


def _first_stays_low(values, threshold):
    """Iteration from 0 from which on all values are low."""
    first = len(values)
    while first and values[first - 1] < threshold:
        first -= 1
    return first


@pytest.mark.parametrize(
    'loss, words',
    [
        # the centre stays where it is and the temperature is low
        (
            dict(
                center_momentum=1.0,
                teacher_temp=0.02,
                warmup_teacher_temp=0.02,
            ),
            ['one output takes all images', 'MomentumUpdateHook'],
        ),
        # a teacher softer than the student
        (
            dict(teacher_temp=1.0, warmup_teacher_temp=1.0),
            ['evenly over all outputs'],
        ),
    ],
    ids=['no centring', 'no sharpening'],
)
def test_collapse__is_named_within_the_stated_steps(tmp_path, loss, words):
    runner = _runner(tmp_path, _dino(**loss), [_collapse_hook()], 8, lr=3e-3)
    runner.train()
    begin = _first_stays_low(_history(runner, 'teacher_information'), 0.003)
    limit = max(begin, WARMUP) + PATIENCE * INTERVAL
    assert limit <= runner.iter == 32
    warnings = [line for line in runner.lines if 'collapsed' in line]
    assert len(warnings) == 1
    for word in words:
        assert word in warnings[0]
    said = int(warnings[0].split('up to iteration ')[1].split(';')[0])
    assert said <= limit
    # the features in front of the head show nothing
    assert min(_history(runner, 'std_global')) > 0.1


def test_collapse__of_features_is_named_within_the_stated_steps(tmp_path):
    hooks = [_ZeroWeights(18), _collapse_hook()]
    runner = _runner(tmp_path, _dino(), hooks, 8)
    runner.train()
    warnings = [line for line in runner.lines if 'collapsed' in line]
    for key, threshold, words in (
        ('std_global', 0.1, 'Features look collapsed'),
        ('teacher_information', 0.003, 'neither even nor of one output'),
    ):
        (line,) = [line for line in warnings if f'{key} was low' in line]
        assert words in line
        begin = _first_stays_low(_history(runner, key), threshold)
        assert begin >= 18
        said = int(line.split('up to iteration ')[1].split(';')[0])
        assert 18 < said <= begin + PATIENCE * INTERVAL
    assert len(warnings) == 2


def test_collapse__healthy_training_is_silent(tmp_path):
    runner = _runner(tmp_path, _dino(), [_collapse_hook()], 10)
    runner.train()
    assert runner.iter == 40
    assert not [line for line in runner.lines if 'collapsed' in line]


# rank, norm and matching ----------------------------------------------------

MONITORS = [
    dict(type='mmdense.FeatureMonitorHook', interval=3),
    dict(type='mmdense.PatchMatchMonitorHook', interval=3, num_images=4),
]
LOGGED = ('rank_global', 'rank_local', 'grad_norm', 'match_change')


def _same(one, two, path=''):
    assert type(one) is type(two), path
    if isinstance(one, dict):
        assert one.keys() == two.keys(), path
        for key in one:
            _same(one[key], two[key], f'{path}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), path
        for index, pair in enumerate(zip(one, two)):
            _same(*pair, f'{path}[{index}]')
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), path
    else:
        assert one == two, path


def test_monitors__appear_in_the_log_line(tmp_path):
    runner = _runner(tmp_path, _selfpatch(), MONITORS, 2)
    runner.train()
    lines = [line for line in runner.lines if 'Epoch(train)' in line]
    for name in LOGGED:
        assert f'{name}: ' in lines[-1]
        # iterations 3 and 6 of 8
        assert len(_history(runner, name)) == 2
    # logged by the model at every iteration, not again by the hook
    for name in ('std_global', 'std_local'):
        assert len(_history(runner, name)) == 8
    assert all(1 <= v <= 16 for v in _history(runner, 'rank_global'))
    assert all(1 <= v <= 32 for v in _history(runner, 'rank_local'))
    assert all(0 <= v <= 1 for v in _history(runner, 'match_change'))
    assert all(0 < v < 100 for v in _history(runner, 'grad_norm'))


def test_monitors__change_nothing(tmp_path):
    # drop path draws from the generators that a look must leave alone
    for name, hooks in (('without', []), ('with', MONITORS)):
        _runner(tmp_path / name, _selfpatch(), hooks, 2).train()
    want, got = (
        load_checkpoint_file(tmp_path / name / 'epoch_2.pth')
        for name in ('without', 'with')
    )
    for part in ('state_dict', 'optimizer'):
        _same(want[part], got[part], part)


def test_look__is_repeatable_and_follows_the_teacher(tmp_path):
    hooks = [dict(type='mmdense.PatchMatchMonitorHook', interval=1)]
    runner = _runner(tmp_path, _selfpatch(), hooks, 1)
    runner.train()
    (hook,) = [h for h in runner.hooks if 'PatchMatch' in type(h).__name__]
    model = runner.model
    modes = [module.training for module in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    looks = hook._look(runner), hook._look(runner)
    _same(*looks)
    _same(looks[0], hook._index)
    # two global crops of eight images in a grid of 4x4
    assert [index.shape for index in looks[0]] == [(16, 16, 4)]
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    _same(state, dict(model.state_dict()))
    with torch.no_grad():
        for weight in model.method.backbone.parameters():
            weight.normal_()
    _same(hook._look(runner), looks[0])
    with torch.no_grad():
        for weight in model.method.teacher.backbone.parameters():
            weight.normal_()
    assert not torch.equal(hook._look(runner)[0], looks[0][0])


def test_resume__monitors_go_on_bit_for_bit(tmp_path):
    seeded = [*MONITORS, dict(type='mmdense.StepSeedHook')]
    straight = _runner(tmp_path / 'straight', _selfpatch(), seeded, 3)
    straight.train()
    first = _runner(tmp_path / 'broken', _selfpatch(), seeded, 3)
    run_epoch = first.build_train_loop(first._train_loop).run_epoch
    first._train_loop = run_epoch.__self__

    def stop_after_the_first():
        if first.epoch == 1:
            raise KeyboardInterrupt
        run_epoch()

    first.train_loop.run_epoch = stop_after_the_first
    with pytest.raises(KeyboardInterrupt):
        first.train()
    resumed = _runner(
        tmp_path / 'broken',
        _selfpatch(),
        seeded,
        3,
        load_from=str(tmp_path / 'broken' / 'epoch_1.pth'),
        resume=True,
    )
    resumed.train()
    assert straight.iter == resumed.iter == 12
    want, got = (
        load_checkpoint_file(tmp_path / name / 'epoch_3.pth')
        for name in ('straight', 'broken')
    )
    for part in ('state_dict', 'optimizer', 'patch_match_monitor'):
        _same(want[part], got[part], part)
    for name in (*LOGGED, 'teacher_information'):
        assert _history(straight, name) == _history(resumed, name), name
    assert len(_history(resumed, 'match_change')) == 4
