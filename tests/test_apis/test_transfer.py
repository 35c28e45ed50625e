"""Starting weights and commands of a fine-tuning; nothing is trained."""

from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config

from mmdense.apis import transfer_weights
from mmdense.apis.transfer import TransferJob
from mmdense.apis.transfer_weights import MissingWeightsError
from mmdense.results.config_hash import config_hash, config_place
from mmdense.results.rows import file_hash

OWN = 'local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px'
START = 'model.backbone.init_cfg.checkpoint'


def _job(tmp_path, checkpoint='exports/x.pth', origin=None, **settings):
    cfg = Config(
        dict(
            model=dict(
                backbone=dict(
                    type='mmdense.VisionTransformer',
                    init_cfg=dict(
                        type='mmdense.Pretrained', checkpoint=checkpoint
                    ),
                )
            ),
            train_dataloader=dict(
                batch_size=2, num_workers=4, dataset=dict(data_root='a/b')
            ),
            train_cfg=dict(max_epochs=3),
            optim_wrapper=dict(type='mmdense.OptimWrapper'),
            test_evaluator=dict(type='mmseg.IoUMetric'),
            benchmark=dict(
                protocol='p', pretraining=origin or dict(config=OWN)
            ),
        )
    )
    work, tools = tmp_path / 'work', Path('/tools')
    return TransferJob('configs/a.py', cfg, work, tools, **settings)


def _save(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


@pytest.fixture(autouse=True)
def _cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_find_weights__existing_export_is_used(tmp_path):
    _save(tmp_path / 'exports/x.pth', state_dict={})
    job = _job(tmp_path)
    job.find_weights()
    assert (job.weights, job.source) == ('exports/x.pth', None)
    assert '--cfg-options' not in job.train_stage().command


def test_find_weights__half_an_export_is_written_again(tmp_path):
    path = _save(tmp_path / 'exports/x.pth', state_dict={})
    path.write_bytes(path.read_bytes()[:100])
    folder = tmp_path / 'work_dirs' / OWN
    _save(folder / 'epoch_70.pth', state_dict={})
    job = _job(tmp_path)
    job.find_weights()
    assert job.source is not None and 'is not whole' in job.notes[0]


def test_find_weights__latest_checkpoint_is_exported_and_shared(tmp_path):
    folder = tmp_path / 'work_dirs' / OWN
    _save(folder / 'epoch_70.pth', state_dict={})
    job = _job(tmp_path)
    job.find_weights()
    assert job.source == f'work_dirs/{OWN}/epoch_70.pth'
    assert job.weights == 'exports/x.pth' and job.notes == []
    command = job.export_stage().command
    assert command[3].endswith('export_backbone.py')
    assert command[4:] == [
        job.source,
        str(job.exported),
        *('--layout', 'mmpretrain'),
    ]
    _save(job.exported, state_dict={})
    job.share_export()
    shared = tmp_path / 'exports' / 'x.pth'
    assert file_hash(shared) == file_hash(job.exported)
    names = sorted(p.name for p in shared.parent.iterdir())
    assert names == ['x.pth', 'x.pth.json']
    # what the config names is used: nothing to override
    assert job.train_stage().command[4] == 'configs/a.py'
    assert job.run_config_text() == ''


def _exported(job, value):
    """Do what the export stage does, and what comes after it."""
    stage = job.export_stage()
    stage.prepare()
    _save(job.exported, state_dict={'a': torch.full((1,), value)})
    stage.finish(1)
    job.share_export()


def test_find_weights__stale_export_is_written_again(tmp_path):
    folder = tmp_path / 'work_dirs' / OWN
    _save(folder / 'epoch_70.pth', state_dict={})
    job = _job(tmp_path)
    job.find_weights()
    assert 'not exported yet' in job.train_stage().identity
    _exported(job, 1.0)
    first = job.train_stage().key
    job = _job(tmp_path)
    job.find_weights()
    assert (job.source, job.notes) == (None, [])
    assert job.train_stage().key == first
    # the same name holds something else
    _save(folder / 'epoch_70.pth', state_dict={'b': torch.ones(3)})
    job = _job(tmp_path)
    job.find_weights()
    assert job.source == f'work_dirs/{OWN}/epoch_70.pth'
    assert 'was exported from' in job.notes[0]
    # so that a dry run does not call it done
    assert job.train_stage().key != first
    _exported(job, 2.0)
    assert job.train_stage().key != first
    job = _job(tmp_path)
    job.find_weights()
    assert job.source is None
    # an export of the user's own stays
    _save(tmp_path / 'exports/x.pth', state_dict={})
    job = _job(tmp_path)
    job.find_weights()
    assert job.source is None and 'as it is' in job.notes[0]


def test_find_weights__unfinished_export_is_not_shared(tmp_path):
    folder = tmp_path / 'work_dirs' / OWN
    _save(folder / 'epoch_60.pth', state_dict={})
    job = _job(tmp_path)
    job.find_weights()
    assert 'max_epochs=70' in job.notes[0] and 'stays in' in job.notes[0]
    _exported(job, 1.0)
    assert not (tmp_path / 'exports').exists()
    assert job.weights == str(job.exported)
    assert str(job.exported) in job.run_config_text()
    _save(folder / 'epoch_70.pth', state_dict={})
    job = _job(tmp_path)
    job.find_weights()
    assert job.weights == 'exports/x.pth' and job.notes == []


def test_find_weights__config_without_a_place(tmp_path):
    _save(tmp_path / 'work_dirs' / OWN / 'epoch_70.pth', state_dict={})
    job = _job(tmp_path, None)
    job.find_weights()
    assert job.notes == []
    job.share_export()
    for stage in (job.train_stage(), job.test_stage('x.pth')):
        assert stage.command[4] == str(job.run_config)
    cfg = _written(job, tmp_path)
    assert cfg.model.backbone.init_cfg.checkpoint == str(job.exported)


def _written(job, tmp_path):
    """The config that the commands of a job get."""
    path = tmp_path / 'configs' / 'a.py'
    path.parent.mkdir(exist_ok=True)
    job.cfg.dump(str(path))
    job.write_config()
    return Config.fromfile(str(job.run_config))


def test_find_weights__no_pretraining_says_how_to_pretrain(tmp_path):
    with pytest.raises(MissingWeightsError) as info:
        _job(tmp_path).find_weights()
    text = str(info.value)
    assert f'{OWN}.py --resume' in text and 'tools/train.py' in text
    assert '.mim' not in text and 'exports/x.pth' in text
    name = 'dino_vit-small-p16_8xb128-amp-coslr-300e_in1k'
    with pytest.raises(MissingWeightsError, match='dist_train.sh .* 8 '):
        _job(tmp_path, origin=dict(config=name)).find_weights()
    later = _job(tmp_path, origin=dict(config='later_8xb16-30k_x'))
    with pytest.raises(MissingWeightsError, match='not exist yet') as info:
        later.find_weights()
    assert 'tools/' not in str(info.value)


@pytest.fixture
def public(tmp_path, monkeypatch):
    source = tmp_path / 'released.pth'
    torch.save({}, source)
    entries = {
        'a': dict(File='x.pth', URL='https://host/x.pth', Page='page'),
        'b': dict(File='x.pth', URL=None, Page='https://page'),
    }
    folder = tmp_path / 'zoo' / 'configs'
    folder.mkdir(parents=True)
    (folder / 'public_weights.yml').write_text(yaml.safe_dump(entries))
    monkeypatch.setattr(transfer_weights, 'zoo_root', lambda: folder.parent)

    def fetch(url, folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(folder) / url.rsplit('/', 1)[-1]
        path.write_bytes(source.read_bytes())
        return str(path)

    monkeypatch.setattr(transfer_weights, 'local_file', fetch)


@pytest.mark.parametrize(
    'name,words',
    [
        ('a', 'Fetch https://host/x.pth and put .* or pass --download'),
        ('b', 'Get them from https://page'),
    ],
)
def test_find_weights__public_ones_are_explained(
    tmp_path, public, name, words
):
    job = _job(tmp_path, 'checkpoints/y.pth', dict(weights=name))
    with pytest.raises(MissingWeightsError, match=words) as info:
        job.find_weights()
    assert 'checkpoints/y.pth' in str(info.value)


def test_find_weights__public_ones_are_fetched(tmp_path, public):
    job = _job(tmp_path, 'checkpoints/y.pth', dict(weights='a'))
    job.find_weights(download=True)
    assert job.weights == 'checkpoints/y.pth' and job.source is None
    assert [p.name for p in (tmp_path / 'checkpoints').iterdir()] == ['y.pth']


def test_use__exported_or_training_checkpoint(tmp_path):
    exported = _save(
        tmp_path / 'e.pth', state_dict={}, meta=dict(mmdense_export='1')
    )
    job = _job(tmp_path)
    job.use('e.pth')
    assert (job.weights, job.source) == (str(exported), None)
    cfg = _written(job, tmp_path)
    assert cfg.model.backbone.init_cfg.checkpoint == str(exported)
    assert cfg.benchmark.pretraining == dict(checkpoint='e.pth', method=None)
    training = _save(tmp_path / 't.pth', state_dict={}, meta=dict(epoch=1))
    job = _job(tmp_path)
    job.use('t.pth')
    assert job.source == str(training)
    assert job.weights == str(tmp_path / 'work' / 'export' / 'backbone.pth')
    job.share_export()  # the place that the config names stays untouched
    assert not (tmp_path / 'exports').exists()


STEM = 'selfpatch-x_vit-tiny-p16_1xb2-30e_y'


@pytest.mark.parametrize('same', [True, False])
def test_use__row_tells_what_the_file_says(tmp_path, same):
    """A method that the file does not confirm is not claimed."""
    name = STEM if same else 'dino_y'
    meta = dict(
        experiment_name=f'{name}_20240131_235959',
        epoch=12,
        cfg="model = dict(type='DINO')\n",
    )
    _save(tmp_path / 't.pth', state_dict={}, meta=meta)
    origin = dict(method='M', epochs=30, data='D', config=STEM)
    job = _job(tmp_path, origin=origin)
    job.use('t.pth')
    found = _written(job, tmp_path).benchmark.pretraining
    known = dict(origin, epochs=12, checkpoint='t.pth')
    other = dict(checkpoint='t.pth', method='DINO')
    assert found == (known if same else other)


def test_run_config__any_path_and_the_same_place(tmp_path):
    """What options of a command line would strip or split."""
    folder = tmp_path / "we, 'i g\u00e4 [1]"
    given = _save(folder / 'e, 1.pth', meta=dict(mmdense_export='1'))
    job = _job(tmp_path)
    job.work = folder / 'work'
    job.use(str(given))
    cfg = _written(job, tmp_path)
    assert cfg.model.backbone.init_cfg.checkpoint == str(given)
    assert cfg.benchmark.pretraining.checkpoint == str(given)
    assert cfg.model.backbone.init_cfg.type == 'mmdense.Pretrained'
    assert config_place(cfg.filename) == 'configs/a.py'
    assert config_hash(cfg) == config_hash(job.cfg)
    # the user's words for the same key would win
    job.options = [f'{START}=other.pth', 'a=1']
    assert job.train_stage().command[-2:] == ['--cfg-options', 'a=1']


def test_stages__commands_of_the_launchers(tmp_path):
    single = _job(tmp_path, options=['a.b=1'], amp=True, trust=True)
    train = single.train_stage().command
    assert train[3:] == [
        *('/tools/train.py', 'configs/a.py', '--work-dir'),
        *(f'{tmp_path}/work/train', '--resume', '--amp'),
        *('--trust-checkpoint', '--cfg-options', 'a.b=1'),
    ]
    test = single.test_stage('c.pth').command
    assert test[3:] == [
        *('/tools/test.py', 'configs/a.py', 'c.pth', '--work-dir'),
        *(f'{tmp_path}/work/test', '--trust-checkpoint'),
        *('--cfg-options', 'a.b=1'),
    ]
    many = _job(tmp_path, launcher='pytorch', gpus=4)
    assert many.train_stage().command == [
        *('bash', '/tools/dist_train.sh', 'configs/a.py', '4'),
        *('--work-dir', f'{tmp_path}/work/train', '--resume'),
    ]
    assert many.test_stage('c.pth').command[:5] == [
        *('bash', '/tools/dist_test.sh', 'configs/a.py', 'c.pth', '4'),
    ]
    slurm = _job(tmp_path, launcher='slurm', gpus=16, partition='gpu')
    stage = slurm.train_stage()
    assert stage.command == [
        *('bash', '/tools/slurm_train.sh', 'gpu', 'a', 'configs/a.py'),
        *(f'{tmp_path}/work/train', '--resume'),
    ]
    assert stage.env['GPUS'] == '16' and stage.env['GPUS_PER_NODE'] == '8'
    assert slurm.test_stage('c.pth').command[:6] == [
        *('bash', '/tools/slurm_test.sh', 'gpu', 'a', 'configs/a.py', 'c.pth'),
    ]


@pytest.mark.parametrize(
    'change,train,test',
    [
        ({}, False, False),
        ({'train_dataloader.num_workers': 0}, False, False),
        ({START: 'elsewhere/x.pth'}, False, False),
        ({'default_hooks.logger.interval': 7}, False, False),
        ({'default_hooks.checkpoint.interval': 7}, False, False),
        ({'val_dataloader.batch_size': 7}, False, False),
        ({'train_dataloader.dataset.data_root': 'c/b'}, False, False),
        ({'train_dataloader.dataset.data_root': 'a/c'}, True, False),
        ({'randomness.seed': 7}, True, False),
        ({'optim_wrapper.accumulative_counts': 2}, True, False),
        ({'benchmark.protocol': 'q'}, False, True),
        ({'test_evaluator.type': 'mmdense.Other'}, False, True),
        ({'train_cfg.max_epochs': 4}, True, True),
        ({'train_dataloader.batch_size': 4}, True, False),
    ],
)
def test_stages__what_makes_them_run_again(tmp_path, change, train, test):
    """By content: where the starting weights lie does not matter."""
    for name in ('exports/x.pth', 'elsewhere/x.pth'):
        _save(tmp_path / name, state_dict={})
    checkpoint = str(_save(tmp_path / 'c.pth', state_dict={}))
    first, second = _job(tmp_path), _job(tmp_path)
    second.cfg.merge_from_dict(change)
    for job in (first, second):
        job.find_weights()
    keys = [job.train_stage().key for job in (first, second)]
    assert (keys[0] != keys[1]) is train
    keys = [job.test_stage(checkpoint).key for job in (first, second)]
    assert (keys[0] != keys[1]) is test


def test_stages__other_weights_run_again(tmp_path):
    path = _save(tmp_path / 'exports/x.pth', state_dict={})
    job = _job(tmp_path)
    job.find_weights()
    before = job.train_stage().key
    _save(path, state_dict={'a': torch.zeros(1)})
    assert job.train_stage().key != before
    other = _job(tmp_path, gpus=2)
    other.find_weights()
    assert other.train_stage().key != job.train_stage().key


def test_test_stage__not_done_without_its_row(tmp_path):
    job = _job(tmp_path)
    checkpoint = str(_save(tmp_path / 'c.pth', state_dict={}))
    stage = job.test_stage(checkpoint)
    stage.prepare()
    stage.finish(1)
    assert not job.test_stage(checkpoint).done
    # rows of earlier versions do not count
    for folder, done in ((job.work, False), (stage.folder, True)):
        (folder / 'results').mkdir()
        (folder / 'results' / 'a.json').write_text('{}')
        assert job.test_stage(checkpoint).done is done


def test_tested_checkpoint__is_the_last_one(tmp_path):
    job = _job(tmp_path)
    assert job.tested_checkpoint() is None
    _save(job.train_dir / 'epoch_3.pth', state_dict={})
    _save(job.train_dir / 'best_mIoU_epoch_2.pth', state_dict={})
    assert job.tested_checkpoint().endswith('epoch_3.pth')
    (job.train_dir / 'epoch_4.pth').write_bytes(b'half')
    assert job.tested_checkpoint().endswith('epoch_3.pth')
