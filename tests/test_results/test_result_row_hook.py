import copy
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset

import mmdense  # noqa: F401
from mmdense.engine.hooks.result_row_hook import training_facts
from mmdense.results.config_hash import config_hash, config_place
from mmdense.results.rows import file_hash, read_rows
from mmdense.testing.launch import ROOT

CONFIG = """
default_scope = 'mmengine'
model = dict(
    type='RowToyModel', backbone=dict(init_cfg=dict(checkpoint={weights!r}))
)
loader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='RowToyData'),
)
train_dataloader = loader
test_dataloader = loader
train_cfg = dict(by_epoch=False, max_iters=4)
test_cfg = dict()
test_evaluator = dict(type='RowToyMetric', value=42.5)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)
)
custom_hooks = [dict(type='mmdense.ResultRowHook')]
randomness = dict(seed=11)
benchmark = dict(
    protocol='toy', dataset='Toys', split='val',
    pretraining=dict(method='DINO', config='pre'),
)
"""


class RowToyModel(BaseModel):
    def __init__(self, backbone=None):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor', **_):
        out = self.layer(torch.stack(list(inputs)))
        return {'loss': out.mean()} if mode == 'loss' else [0] * len(out)


class RowToyData(Dataset):
    METAINFO = {}
    metainfo = {}

    def __init__(self, data_root=''):
        super().__init__()

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return {'inputs': torch.ones(1) * index}


class RowToyMetric(BaseMetric):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {'mIoU': self.value, 'aAcc': math.nan, 'images': len(results)}


@pytest.fixture(autouse=True, scope='module')
def registered():
    for registry, cls in (
        (MODELS, RowToyModel),
        (DATASETS, RowToyData),
        (METRICS, RowToyMetric),
    ):
        registry.register_module(module=cls, force=True)


@pytest.fixture
def trained(tmp_path):
    weights = tmp_path / 'start.pth'
    weights.write_bytes(b'abc')
    folder = tmp_path / 'configs' / 'm'
    folder.mkdir(parents=True)
    path = folder / 'toy_config.py'
    path.write_text(CONFIG.format(weights=str(weights)))
    cfg = Config.fromfile(str(path))
    cfg.work_dir = str(tmp_path / 'work')
    train = copy.deepcopy(cfg)
    for name in ('test_dataloader', 'test_cfg', 'test_evaluator'):
        train.pop(name)
    Runner.from_cfg(train).train()
    return cfg


def test(cfg, checkpoint='iter_4.pth', **changes):
    cfg = copy.deepcopy(cfg)
    cfg.load_from = f'{cfg.work_dir}/{checkpoint}'
    cfg.model.backbone.init_cfg = None
    cfg.merge_from_dict(changes)
    runner = Runner.from_cfg(cfg)
    runner.test()
    return runner


test.__test__ = False


def test_row__says_all_of_a_test(trained, tmp_path):
    runner = test(trained)
    (row,) = read_rows(trained.work_dir)
    assert os.path.basename(row.file) == (
        f'toy_config_{runner.timestamp}.json'
    )
    assert row.config == 'toy_config'
    assert row.config_path == 'configs/m/toy_config.py'
    cfg = Config.fromfile(str(tmp_path / 'configs/m/toy_config.py'))
    assert row.config_hash == config_hash(cfg)
    # the training had no part of the test
    assert row.training_hash == config_hash(cfg, test=False)
    assert row.weights_hash == file_hash(f'{trained.work_dir}/iter_4.pth')
    assert row.initial_weights == str(tmp_path / 'start.pth')
    assert row.initial_weights_hash.startswith('ba7816bf')
    assert (row.protocol, row.dataset, row.split) == ('toy', 'Toys', 'val')
    assert row.pretraining == {'method': 'DINO', 'config': 'pre'}
    assert (row.metric, row.value) == ('mIoU', 42.5)
    assert row.metrics == {'mIoU': 42.5, 'aAcc': None}
    assert row.not_finite == ['aAcc']
    assert row.raw_metrics['images'] == 6
    assert (row.steps, row.finished, row.seed) == (4, True, 11)
    assert row.samples == 6
    assert row.hardware['count'] == 1
    assert row.hardware['torch'] == torch.__version__
    assert os.path.isfile(os.path.join(trained.work_dir, row.log))
    assert row.time.endswith('+00:00')
    with open(row.file) as stream:
        text = stream.read()
    assert 'NaN' not in text
    json.loads(text)


def test_row__of_an_unfinished_training(trained):
    test(trained, 'iter_2.pth')
    (row,) = read_rows(trained.work_dir)
    assert (row.steps, row.finished) == (2, False)


def test_row__without_a_benchmark(trained):
    trained.pop('benchmark')
    test(trained)
    (row,) = read_rows(trained.work_dir)
    assert row.protocol is row.dataset is row.split is None
    assert row.value == 42.5


def train(cfg, **changes):
    cfg = copy.deepcopy(cfg)
    for name in ('test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg.pop(name)
    cfg.merge_from_dict(changes)
    Runner.from_cfg(cfg).train()


def test_row__training_from_random_weights_names_none(trained):
    train(trained, **{'model.backbone.init_cfg': None})
    # this config of the test still names some
    (row,) = rows_after(trained)
    assert row.training_hash is not None
    assert row.initial_weights is row.initial_weights_hash is None


def rows_after(cfg):
    cfg = copy.deepcopy(cfg)
    cfg.load_from = f'{cfg.work_dir}/iter_4.pth'
    Runner.from_cfg(cfg).test()
    return read_rows(cfg.work_dir)


def test_row__checkpoint_without_a_config_leaves_the_tests(trained):
    path = f'{trained.work_dir}/iter_4.pth'
    checkpoint = torch.load(path, weights_only=False)
    del checkpoint['meta']['cfg']
    torch.save(checkpoint, path)
    (row,) = rows_after(trained)
    assert row.initial_weights.endswith('start.pth')
    assert row.training_hash is row.finished is row.train_data is None
    assert row.pretraining == {'method': 'DINO', 'config': 'pre'}


def test_row__pretraining_and_data_are_those_of_the_training(trained):
    train(
        trained,
        **{
            'benchmark.pretraining.checkpoint': 'mine.pth',
            'train_dataloader.dataset.data_root': '/x/toys10percent',
        },
    )
    (row,) = rows_after(trained)
    assert row.pretraining['checkpoint'] == 'mine.pth'
    assert row.train_data == 'toys10percent'


def test_facts__samples_that_a_checkpoint_states():
    facts = training_facts({'mmdense_run': {'train_samples': 6}})
    assert facts['train_samples'] == 6
    assert 'train_samples' not in training_facts({})


def test_row__that_cannot_be_written_is_a_warning(trained, tmp_path):
    (tmp_path / 'work').joinpath('results').write_text('in the way')
    runner = test(trained)
    log = os.path.join(runner.log_dir, f'{runner.timestamp}.log')
    with open(log) as stream:
        text = stream.read()
    assert 'No row of results was written' in text
    assert 'FileExistsError' in text or 'NotADirectoryError' in text


def test_rows__one_for_each_data_set(trained):
    sets = {'Toys': 'toys', 'mean of two': 'mean', 'Absent': 'absent'}
    metrics = {
        'p/toys/d1_error': 8.0,
        'p/toys/abs_rel': 0.1,
        'p/mean/d1_error': 9.0,
    }
    trained.benchmark.dataset = sets
    runner = test(trained)
    hook = next(h for h in runner.hooks if type(h).__name__ == 'ResultRowHook')
    for row in read_rows(trained.work_dir):
        raise AssertionError(f'{row.file}: mIoU is of none of the sets')
    hook.after_test_epoch(runner, metrics)
    rows = {row.dataset: row for row in read_rows(trained.work_dir)}
    assert list(rows) == ['mean of two', 'Toys']
    assert rows['Toys'].metrics == {'delta1_error': 8.0, 'AbsRel': 0.1}
    assert (rows['Toys'].metric, rows['Toys'].value) == ('AbsRel', 0.1)
    assert rows['mean of two'].metrics == {'delta1_error': 9.0}
    assert rows['Toys'].file.endswith('_toys.json')
    assert rows['Toys'].samples is None
    assert rows['Toys'].config_hash == rows['mean of two'].config_hash
    assert rows['Toys'].finished is True


@pytest.mark.dist
def test_row__is_written_by_one_process(tmp_path):
    code = (
        'import os, mmdense, types, torch.distributed as d\n'
        'd.init_process_group("gloo")\n'
        'from mmdense.engine.hooks import ResultRowHook\n'
        'class R: work_dir = os.environ["ROW_DIR"]\n'
        'hook = ResultRowHook()\n'
        'hook.rows = lambda *a: [__import__("mmdense.results.rows", '
        'fromlist=["x"]).RunRow(config="x")]\n'
        'R.timestamp = "t"\n'
        'R.logger = types.SimpleNamespace(info=print, warning=print)\n'
        'hook.after_test_epoch(R, {"mIoU": 1.0})\n'
        'd.barrier()\n'
    )
    script = tmp_path / 'run.py'
    script.write_text(code)
    env = {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'ROW_DIR': str(tmp_path),
        'OMP_NUM_THREADS': '1',
    }
    subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
            *('--nproc_per_node', '2', str(script)),
        ],
        env=env,
        check=True,
        capture_output=True,
        timeout=200,
    )
    assert os.listdir(tmp_path / 'results') == ['x_t.json']


def test_place__from_configs_on():
    path = ROOT / 'configs/dino/x.py'
    assert config_place(str(path)) == 'configs/dino/x.py'
    assert config_place('/tmp/mine.py') == 'mine.py'
    assert config_place(None) is None
