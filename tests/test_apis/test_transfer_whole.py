"""Configs that start from a whole model; nothing is trained."""

import pytest
import torch
import yaml
from mmengine.config import Config

from mmdense.apis import transfer_weights
from mmdense.apis.convert_dpt import convert_dpt
from mmdense.apis.transfer_weights import MissingWeightsError
from mmdense.apis.transfer_whole import WholeModelJob, starts_whole
from mmdense.registry import MODELS
from mmdense.results.config_hash import config_hash
from mmdense.utils.errors import UserValueError

FIRST = 'dpt_vit-base-p16_vit-in21k-384-pre_1xb16-60e_mix3-384x384'
NAMED = f'work_dirs/{FIRST}/iter_4320000.pth'
STATE = {'backbone.a': torch.ones(1), 'decode_head.b': torch.zeros(1)}
META = dict(
    experiment_name=f'{FIRST}_20240131_235959',
    epoch=3,
    iter=2160000,
    cfg='train_cfg = dict(max_iters=4320000)\n',
)


def _job(tmp_path, load_from=NAMED, epochs=2, **settings):
    origin = settings.pop('origin', dict(config=FIRST, epochs=60))
    cfg = Config(
        dict(
            model=dict(backbone=dict(type='mmdense.VisionTransformer')),
            train_dataloader=dict(dataset=dict(data_root='a')),
            train_cfg=dict(max_epochs=epochs),
            load_from=load_from,
            benchmark=dict(protocol='p', pretraining=origin),
        )
    )
    place = tmp_path / 'configs' / 'a.py'
    place.parent.mkdir(exist_ok=True)
    cfg.dump(str(place))
    work, tools = tmp_path / 'work', tmp_path / 'tools'
    return WholeModelJob('configs/a.py', cfg, work, tools, **settings)


def _save(path, state=None, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=state or STATE, **content), path)
    return path


def _written(job):
    job.write_config()
    return Config.fromfile(str(job.run_config))


@pytest.fixture(autouse=True)
def _cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope='module')
def official(tmp_path_factory):
    """File of a small DPT with the authors' names."""
    folder = tmp_path_factory.mktemp('official')
    arch = dict(
        embed_dims=64, num_layers=12, num_heads=1, feedforward_channels=64
    )
    model = MODELS.build(
        dict(
            type='mmdense.DepthEstimator',
            backbone=dict(
                type='mmdense.VisionTransformer',
                arch=arch,
                img_size=32,
                out_type='tokens',
                out_indices=[2, 5, 8, 11],
                final_norm=False,
            ),
            decode_head=dict(
                type='mmdense.DPTDepthHead',
                in_channels=[64] * 4,
                reassemble_channels=[8, 8, 16, 16],
                channels=16,
            ),
        )
    )
    ours, path = folder / 'ours.pth', folder / 'official.pt'
    torch.save({'state_dict': model.state_dict()}, ours)
    convert_dpt(str(ours), str(path), layout='official')
    return path


def test_starts_whole__load_from_without_a_backbone():
    backbone = dict(init_cfg=dict(checkpoint='b.pth'))
    for cfg, wanted in (
        (dict(model=dict(backbone={}), load_from='a.pth'), True),
        (dict(model=dict(backbone={}), load_from='a.pth', resume=True), False),
        (dict(model=dict(backbone=backbone), load_from='a.pth'), False),
        (dict(model=dict(backbone=backbone)), False),
        (dict(model=dict(backbone={}), train_cfg=dict(max_epochs=0)), True),
    ):
        assert starts_whole(cfg) is wanted


def test_find_weights__what_the_config_names_needs_nothing(tmp_path):
    path = _save(tmp_path / NAMED)
    job = _job(tmp_path)
    job.find_weights()
    assert (job.weights, job.source, job.notes) == (str(path), None, [])
    command = job.train_stage().command
    assert command[4:] == ['configs/a.py', '--work-dir', str(job.train_dir)]
    assert job.run_config_text() == ''


def test_find_weights__training_of_the_tool_itself(tmp_path):
    """Trained by run.py, the checkpoint lies one folder deeper."""
    path = _save(tmp_path / f'work_dirs/{FIRST}/train/iter_4320000.pth')
    job = _job(tmp_path)
    job.find_weights()
    assert job.notes == []
    cfg = _written(job)
    assert cfg.load_from == str(path)
    # the folder does not make it another recipe
    assert config_hash(cfg, test=False) == config_hash(job.cfg, test=False)
    assert cfg.benchmark.pretraining == dict(config=FIRST, epochs=60)


def test_find_weights__unfinished_training_is_noted(tmp_path):
    _save(tmp_path / f'work_dirs/{FIRST}/iter_2160000.pth', meta=META)
    job = _job(tmp_path)
    job.find_weights()
    assert 'max_iters=4320000' in job.notes[0]
    assert _written(job).benchmark.pretraining.epochs == 30


def test_find_weights__missing_model_says_how_to_get_it(tmp_path):
    with pytest.raises(MissingWeightsError) as info:
        _job(tmp_path).find_weights()
    assert NAMED in str(info.value) and f'{FIRST}.py' in str(info.value)
    with pytest.raises(MissingWeightsError, match='Pass --weights'):
        _job(tmp_path, 'x.pth', origin={}).find_weights()


def test_use__training_checkpoint(tmp_path):
    path = _save(tmp_path / 'given, 1.pth', meta=META)
    job = _job(tmp_path, options=['load_from=other.pth', 'a=1'])
    job.use('given, 1.pth')
    assert (job.weights, job.source) == (str(path), None)
    cfg = _written(job)
    assert cfg.load_from == str(path)
    known = dict(config=FIRST, epochs=30, checkpoint='given, 1.pth')
    assert cfg.benchmark.pretraining == known
    # the user's words for the same key would win
    command = job.train_stage().command
    assert command[-2:] == ['--cfg-options', 'a=1']


def test_use__official_file_is_converted(tmp_path, official):
    job = _job(tmp_path)
    job.use(str(official))
    stage = job.export_stage()
    assert job.source == str(official)
    assert stage.command[3].endswith('convert_dpt.py')
    assert stage.command[4:6] == [str(official), job.weights]
    cfg = _written(job)
    assert cfg.load_from == str(job.exported)
    found = cfg.benchmark.pretraining
    assert found == dict(checkpoint=str(official), method='DPT')
    # what the stage writes is a model of ours
    convert_dpt(*stage.command[4:6], layout='mmdense')
    again = _job(tmp_path)
    again.use(job.weights)
    assert again.source is None
    assert config_hash(cfg, test=False) == config_hash(job.cfg, test=False)


@pytest.mark.parametrize(
    'content',
    [
        dict(state={'a': torch.ones(1)}, meta=dict(mmdense_export='1')),
        dict(state={'backbone.a': torch.ones(1)}),
        dict(state={'blocks.0.attn.qkv.weight': torch.ones(1)}),
    ],
)
def test_use__backbone_alone_is_refused(tmp_path, content):
    _save(tmp_path / 'b.pth', **content)
    with pytest.raises(UserValueError, match=r'b\.pth is no whole') as info:
        _job(tmp_path).use('b.pth')
    text = str(info.value)
    assert 'no decode_head.*' in text and 'load_from' in text


def test_train_stage__resumes_what_is_there_alone(tmp_path):
    """``train.py --resume`` without a checkpoint drops ``load_from``."""
    _save(tmp_path / NAMED)
    job = _job(tmp_path)
    job.find_weights()
    stage = job.train_stage()
    assert '--resume' not in stage.command
    stage.prepare()
    _save(job.train_dir / 'epoch_1.pth')
    assert '--resume' in job.train_stage().command
    # of other weights: will be moved aside
    _save(tmp_path / NAMED, meta=dict(x=1))
    job = _job(tmp_path)
    job.find_weights()
    assert '--resume' not in job.train_stage().command


def test_stages__other_scale_and_shift_run_again(tmp_path):
    _save(tmp_path / NAMED)
    checkpoint = str(_save(tmp_path / 'c.pth'))
    keys = []
    for scale in (0.1, 0.1, 0.2):
        job = _job(tmp_path)
        job.cfg.model.decode_head = dict(
            output='inverse_affine', scale=scale, shift=0.5
        )
        job.find_weights()
        stages = (job.train_stage(), job.test_stage(checkpoint))
        keys.append([stage.key for stage in stages])
    assert keys[0] == keys[1]
    assert all(a != b for a, b in zip(keys[1], keys[2]))


def test_test_stage__augmentation_of_the_config(tmp_path):
    job = _job(tmp_path)
    assert '--tta' not in job.test_stage('c.pth').command
    job.cfg.benchmark.tta = True
    assert '--tta' in job.test_stage('c.pth').command


def test_released_weights__converted_and_tested_alone(
    tmp_path, official, monkeypatch
):
    folder = tmp_path / 'zoo' / 'configs'
    folder.mkdir(parents=True)
    entry = dict(File='x.pt', URL='https://host/x.pt', Page='page')
    text = yaml.safe_dump({'released': entry})
    (folder / 'public_weights.yml').write_text(text)
    monkeypatch.setattr(transfer_weights, 'zoo_root', lambda: folder.parent)
    origin = dict(weights='released')
    job = _job(tmp_path, None, 0, origin=origin)
    with pytest.raises(MissingWeightsError, match='or pass --download'):
        job.find_weights()
    place = tmp_path / 'checkpoints' / 'x.pt'
    place.parent.mkdir()
    place.write_bytes(official.read_bytes())
    job = _job(tmp_path, None, 0, origin=origin)
    job.find_weights()
    assert job.only_tests and job.source == str(place)
    assert job.tested_checkpoint() == str(job.exported)
    assert job.run_config_text() == '' and job.exported.name == 'x.pth'
    command = job.test_stage(job.tested_checkpoint()).command
    assert command[4:6] == ['configs/a.py', str(job.exported)]
    # given ones are named in the row, and load_from is left to the test
    job.use(str(official))
    cfg = _written(job)
    assert cfg.load_from is None
    assert cfg.benchmark.pretraining.checkpoint == str(official)
