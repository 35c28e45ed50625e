import argparse

import pytest
import torch
from mmengine.config import Config

import mmdense  # noqa: F401
from mmdense.apis import running
from mmdense.datasets.image_index import NoImagesError
from mmdense.testing.tiny_training import tiny_training
from mmdense.utils.checkpoint import CheckpointError
from mmdense.utils.model_settings import forget_initial_weights


def _config(scope='mmdense', workers=2):
    return Config(
        {
            'default_scope': scope,
            'train_dataloader': {'num_workers': workers, 'batch_size': 2},
            'val_dataloader': None,
            'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {}},
        }
    )


@pytest.mark.parametrize(
    'scope,collates', [('mmpretrain', True), ('x', False)]
)
def test_set_loader_defaults__collate_of_mmpretrain_only(scope, collates):
    cfg = _config(scope)
    running.set_loader_defaults(cfg)
    assert ('collate_fn' in cfg.train_dataloader) is collates
    assert cfg.val_dataloader is None


def test_set_loader_defaults__workers_and_memory():
    cfg = _config(workers=0)
    running.set_loader_defaults(cfg)
    assert cfg.train_dataloader.persistent_workers is False
    assert cfg.train_dataloader.pin_memory is torch.cuda.is_available()
    cfg = _config(workers=2)
    running.set_loader_defaults(cfg, pin_memory=False)
    assert cfg.train_dataloader.persistent_workers is True
    assert cfg.train_dataloader.pin_memory is False


def test_set_amp__replaces_the_plain_wrapper_only():
    cfg = _config()
    running.set_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    cfg.optim_wrapper.type = 'mmdense.Other'
    with pytest.raises(running.ConfigError, match='mmdense.Other'):
        running.set_amp(cfg)


@pytest.mark.parametrize('scope', ['mmdense', 'mmengine'])
def test_set_amp__the_wrapper_stays_whose_it_is(scope):
    cfg = _config()
    cfg.optim_wrapper.type = f'{scope}.OptimWrapper'
    for _ in range(2):
        running.set_amp(cfg)
        assert cfg.optim_wrapper.type == f'{scope}.AmpOptimWrapper'


METHODS = ['mmdense.DINO', 'mmdense.MoBY', 'mmdense.SelfPatch']


@pytest.mark.parametrize(
    'model,scope,wrapper,added',
    [
        *((m, 'mmpretrain', 'OptimWrapper', 'teacher') for m in METHODS),
        ('DINO', 'mmdense', 'OptimWrapper', 'teacher loss'),
        ('mmdense.DINO', None, 'mmdense.AmpOptimWrapper', 'teacher loss'),
        ('mmdense.LocalGlobal', 'mmdense', 'AmpOptimWrapper', 'loss'),
        ('mmdense.LocalGlobal', 'mmpretrain', 'OptimWrapper', ''),
        ('ImageClassifier', 'mmpretrain', 'mmdense.OptimWrapper', 'loss'),
        ('MoCoV3', 'mmpretrain', None, ''),
    ],
)
def test_add_training_hooks__what_a_run_needs(model, scope, wrapper, added):
    cfg = _config(scope)
    cfg.model = {'type': model}
    cfg.optim_wrapper = {} if wrapper is None else {'type': wrapper}
    running.add_training_hooks(cfg)
    found = {hook.type.rsplit('.', 1)[-1] for hook in cfg.custom_hooks}
    always = {'StepSeedHook', 'DataReportHook', 'ResumeCheckHook'}
    names = {'teacher': 'MomentumUpdateHook', 'loss': 'NonFiniteLossHook'}
    assert found == always | {names[word] for word in added.split()}


def test_add_training_hooks__those_of_the_config_stay():
    cfg = _config()
    cfg.model = {'type': 'mmdense.DINO'}
    own = {'type': 'mmdense.NonFiniteLossHook', 'save_batch': False}
    cfg.custom_hooks = [own, {'type': 'MomentumUpdateHook'}]
    running.add_training_hooks(cfg)
    kinds = [hook.type.rsplit('.', 1)[-1] for hook in cfg.custom_hooks]
    assert len(set(kinds)) == len(kinds) == 5
    assert cfg.custom_hooks[0] == own


def test_add_hook__once():
    cfg = _config()
    running.add_hook(cfg, 'mmdense.StepSeedHook')
    running.add_hook(cfg, 'mmdense.StepSeedHook')
    assert [h.type for h in cfg.custom_hooks] == ['mmdense.StepSeedHook']
    cfg.custom_hooks = [{'type': 'StepSeedHook'}]
    running.add_hook(cfg, 'mmdense.StepSeedHook')
    assert len(cfg.custom_hooks) == 1


def test_add_testing_hooks__a_row_unless_the_config_has_its_own():
    cfg = _config()
    for _ in range(2):
        running.add_testing_hooks(cfg)
        assert [h.type for h in cfg.custom_hooks] == ['mmdense.ResultRowHook']
    own = {'type': 'mmdense.ResultRowHook', 'folder': 'rows'}
    cfg.custom_hooks = [own]
    running.add_testing_hooks(cfg)
    assert cfg.custom_hooks == [own]


def test_build_runner__hooks_of_none_are_left_out(tmp_path):
    cfg = tiny_training('dino', tmp_path)
    cfg.default_hooks.match_monitor = {
        'type': 'mmdense.CollapseMonitorHook',
        'warmup': 3,
    }
    cfg.merge_from_dict(
        {'default_hooks.match_monitor': None, 'default_hooks.timer': None}
    )
    runner = running.build_runner(cfg)
    found = {type(hook).__name__ for hook in runner.hooks}
    assert 'ParamSchedulerHook' in found and 'RuntimeInfoHook' in found
    # None takes a hook of mmengine away; without the name it would be there
    assert not found & {'CollapseMonitorHook', 'IterTimerHook'}


def test_drop_hooks_of_none__config_without_hooks():
    cfg = _config()
    before = cfg.to_dict()
    running.drop_hooks_of_none(cfg)
    assert cfg.to_dict() == before


def test_set_work_dir__order():
    cfg = _config()
    running.set_work_dir(cfg, 'a/b/name.py')
    assert cfg.work_dir == './work_dirs/name'
    running.set_work_dir(cfg, 'a/b/other.py')
    assert cfg.work_dir == './work_dirs/name'
    running.set_work_dir(cfg, 'a/b/other.py', '/tmp/x')
    assert cfg.work_dir == '/tmp/x'


def test_read_config__names_near_files(tmp_path):
    (tmp_path / 'train_vit.py').write_text('a = 1\n')
    with pytest.raises(running.ConfigError, match='train_vit.py'):
        running.read_config(str(tmp_path / 'train_vitt.py'))


def test_exit_on_user_error__message_without_traceback(capsys):
    @running.exit_on_user_error
    def fails(error):
        raise error

    for error in (
        running.ConfigError('bad key'),
        CheckpointError('bad file'),
        NoImagesError('no file'),
    ):
        with pytest.raises(SystemExit) as info:
            fails(error)
        assert info.value.code == 2
        assert f'error: {error}' in capsys.readouterr().err
    # what is no mistake of the user keeps its traceback
    for bug in (ZeroDivisionError, FileNotFoundError):
        with pytest.raises(bug):
            fails(bug())


@pytest.mark.parametrize(
    'hook,place',
    [
        ('VisualizationHook', 'default_hooks.visualization.out_dir'),
        ('mmseg.SegVisualizationHook', 'visualizer.save_dir'),
        (
            'mmdet.DetVisualizationHook',
            'default_hooks.visualization.test_out_dir',
        ),
    ],
)
def test_set_visualization__where_pictures_go(hook, place):
    cfg = Config(
        {'default_hooks': {'visualization': {'type': hook}}, 'visualizer': {}}
    )
    running.set_visualization(cfg, 'out')
    node = cfg
    for name in place.split('.'):
        node = node[name]
    assert node == 'out'


def test_set_visualization__config_without_hook():
    with pytest.raises(running.ConfigError) as error:
        running.set_visualization(Config({'default_hooks': {}}), 'out')
    for hook in ('mmseg.SegV', 'mmdense.DepthV'):
        assert f"'{hook}isualizationHook'" in str(error.value)


def test_trust_checkpoints__reaches_the_loader(tmp_path, monkeypatch):
    from mmdense.utils.checkpoint import (
        TRUST_VARIABLE,
        UnsafeCheckpointError,
        load_checkpoint_file,
    )

    monkeypatch.setenv(TRUST_VARIABLE, '')
    path = tmp_path / 'x.pth'
    torch.save({'a': argparse.Namespace()}, path)
    running.trust_checkpoints(False)
    with pytest.raises(UnsafeCheckpointError):
        load_checkpoint_file(path)
    running.trust_checkpoints(True)
    assert 'a' in load_checkpoint_file(path)


def test_latest_checkpoint__passes_broken_files_over(tmp_path, capsys):
    import os

    assert running.latest_checkpoint(str(tmp_path)) is None
    for age, name in ((30, 'epoch_1.pth'), (20, 'epoch_2.pth')):
        torch.save({'epoch': age}, tmp_path / name)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    whole = (tmp_path / 'epoch_2.pth').read_bytes()
    broken = tmp_path / 'epoch_3.pth'
    broken.write_bytes(whole[: len(whole) // 2])
    found = running.latest_checkpoint(str(tmp_path))
    assert found == str(tmp_path / 'epoch_2.pth')
    assert 'epoch_3.pth is not whole' in capsys.readouterr().out
    # what the run noted counts first, whatever it is called
    (tmp_path / 'mine.pth').write_bytes(whole)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'mine.pth'))
    assert running.latest_checkpoint(str(tmp_path)).endswith('mine.pth')
    (tmp_path / 'mine.pth').unlink()
    assert running.latest_checkpoint(str(tmp_path)) == found


def test_forget_initial_weights__everywhere_in_the_model():
    cfg = Config(
        {
            'model': {
                'backbone': {'init_cfg': {'type': 'P', 'checkpoint': 'x'}},
                'neck': [{'init_cfg': {'type': 'Xavier'}}],
                'heads': [{'init_cfg': {'type': 'P', 'checkpoint': 'y'}}],
            }
        }
    )
    forget_initial_weights(cfg.model)
    assert cfg.model.backbone.init_cfg is None
    assert cfg.model.heads[0].init_cfg is None
    assert cfg.model.neck[0].init_cfg.type == 'Xavier'


class _Loader:
    batch_size = 32
    dataset = range(16)

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length


class _Runner:
    world_size = 2
    _train_loop = None

    def __init__(self, length):
        self.train_dataloader = _Loader(length)

    def build_train_loop(self, loop):
        return loop


def test_check_loader__less_data_than_a_batch_is_explained():
    running.check_loader(_Runner(1))
    with pytest.raises(running.ConfigError) as info:
        running.check_loader(_Runner(0))
    for words in ('16 samples', '32', '2 process', 'batch_size'):
        assert words in str(info.value)


def test_set_resume__nothing_stored_yet_keeps_the_start(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='x.pth', resume=False))
    running.set_resume(cfg, 'auto')
    assert (cfg.load_from, cfg.resume) == ('x.pth', False)


@pytest.mark.parametrize('given', ['auto', 'file'])
def test_set_resume__remembers_the_start(tmp_path, given):
    path = tmp_path / 'iter_3.pth'
    torch.save({}, path)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    cfg = Config(dict(work_dir=str(tmp_path), load_from='x.pth', resume=False))
    running.set_resume(cfg, 'auto' if given == 'auto' else str(path))
    assert (cfg.load_from, cfg.resume) == (str(path), True)
    assert cfg.started_from == 'x.pth'
