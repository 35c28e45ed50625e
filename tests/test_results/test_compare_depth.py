"""Runs of several data sets, of augmented tests, of released weights."""

from copy import deepcopy

import pytest
import yaml
from mmengine.config import Config

from mmdense.results.compare import compare, refusal
from mmdense.results.config_hash import config_hash, initial_weights
from mmdense.results.plan import make_plan
from mmdense.results.rows import RunRow
from mmdense.results.zoo import Zoo
from mmdense.utils.tta import apply_tta

PUBLIC = """
released_vit:
  File: released.pt
  URL: https://example.org/released.pt
  Page: https://example.org
"""
SETS = {'HRWSI': 'hrwsi', 'ReDWeb': 'redweb', 'mean of three': 'mean'}
CONFIG = """
model = dict(type='M', backbone=dict(type='B', init_cfg={{}}))
load_from = 'work_dirs/first/iter_10.pth'
train_cfg = dict(max_iters=10)
test_dataloader = dict(dataset=dict(type='D', pipeline=[dict(type='One')]))
auto_scale_lr = dict(base_batch_size=16)
tta_model = dict(type='TTA')
tta_pipeline = [dict(type='Many')]
benchmark = dict(
    protocol='p', dataset={dataset!r}, split='val', tta={tta},
    pretraining={start},
)
{more}
"""
OWN = "dict(method='DPT', config='first-pre_1xb16')"
RELEASED = "dict(method='DPT', weights='released_vit')"
ABLATION = {
    'Table': 'DPT:Table 7',
    'Method': 'DPT-Base',
    'Setting': 'readout add',
}
FIRST = """
model = dict(
    type='M', backbone=dict(init_cfg=dict(checkpoint='checkpoints/r.pt'))
)
train_cfg = dict(max_iters=10)
benchmark = dict(
    protocol='q', dataset='d', split='s',
    pretraining=dict(method='x', weights='released_vit'),
)
"""


def made_up(root, selectors, dataset=SETS, tta=False, start=OWN, more=''):
    folder = root / 'configs/m'
    (folder / 'benchmarks').mkdir(parents=True)
    text = CONFIG.format(dataset=dataset, tta=tta, start=start, more=more)
    (folder / 'benchmarks/ft.py').write_text(text)
    (folder / 'first-pre_1xb16.py').write_text(FIRST)
    (root / 'configs/public_weights.yml').write_text(PUBLIC)
    entries = [
        {
            'Name': 'ft',
            'Config': 'configs/m/benchmarks/ft.py',
            'Metadata': {'Parameters': 112_500_000},
            'Reproduces': selectors,
        },
        {'Name': 'first-pre_1xb16', 'Config': 'configs/m/first-pre_1xb16.py'},
    ]
    (folder / 'metafile.yml').write_text(yaml.safe_dump({'Models': entries}))
    return Zoo(root)


def make_run(zoo, tested=None, **changes):
    config = zoo.configs['ft']
    cfg = config.cfg
    row = RunRow(
        config='ft',
        config_hash=config_hash(tested if tested is not None else cfg),
        training_hash=config_hash(cfg, test=False),
        weights_hash='w',
        protocol='p',
        split='val',
        pretraining=dict(config.benchmark['pretraining']),
        initial_weights='/elsewhere/iter_10.pth',
        training={'world_size': 1, 'batch_size': 16},
        finished=True,
    )
    return row._replace(**changes)


def _ablation_runs(zoo):
    name = 'abs_rel_dev_after_affine_alignment'
    return [
        make_run(
            zoo, dataset=word, metrics={name: value}, units={name: 'ratio'}
        )
        for word, value in zip(SETS, (0.07, 0.08, 0.075))
    ]


def test_compare__each_data_set_of_a_run_has_its_line(tmp_path):
    selectors = [{**ABLATION, 'Dataset': name} for name in SETS]
    zoo = made_up(tmp_path, selectors)
    results = compare('DPT:Table 7', zoo, _ablation_runs(zoo))
    found = {
        r.rows[0].dataset: next(iter(r.measured.values())).mean
        for r in results
        if r.measured
    }
    assert found == {'HRWSI': 0.07, 'ReDWeb': 0.08, 'mean of three': 0.075}
    assert all(r.refused == [] for r in results)


def test_compare__data_set_that_the_config_does_not_score(tmp_path):
    zoo = made_up(tmp_path, [{**ABLATION, 'Dataset': 'HRWSI'}])
    run = make_run(zoo, dataset='BlendedMVS')
    assert refusal(run, zoo.configs['ft']) == 'other dataset (BlendedMVS)'


def test_refusal__rows_of_augmented_tests_need_one(tmp_path):
    selector = {
        'Table': 'DPT:Table 4',
        'Method': 'DPT-Hybrid',
        'Dataset': 'ADE20K',
    }
    zoo = made_up(tmp_path, [selector], dataset='ADE20K', tta=True)
    config = zoo.configs['ft']
    plain = make_run(zoo, dataset='ADE20K')
    assert refusal(plain, config) == 'tested without --tta'
    cfg = deepcopy(config.cfg)
    apply_tta(cfg)
    assert cfg.model.type == 'TTA'
    assert cfg.model.module.type == 'M'
    assert cfg.test_dataloader.dataset.pipeline == [{'type': 'Many'}]
    assert refusal(make_run(zoo, cfg, dataset='ADE20K'), config) is None
    changed = deepcopy(cfg)
    changed.model.module.type = 'N'
    run = make_run(zoo, changed, dataset='ADE20K')
    assert refusal(run, config) == 'config changed'


def test_refusal__augmented_test_of_a_config_without(tmp_path):
    selector = {**ABLATION, 'Dataset': 'HRWSI'}
    zoo = made_up(tmp_path, [selector])
    cfg = deepcopy(zoo.configs['ft'].cfg)
    apply_tta(cfg)
    run = make_run(zoo, cfg, dataset='HRWSI')
    assert refusal(run, zoo.configs['ft']) == 'config changed'


RELEASED_ROW = {
    'Table': 'DPT:repository EVALUATION.md',
    'Method': 'DPT-Hybrid KITTI weights',
    'Dataset': 'KITTI',
}


def test_compare__released_weights_are_taken_as_they_are(tmp_path):
    zoo = made_up(
        tmp_path,
        [RELEASED_ROW],
        dataset='KITTI',
        start=RELEASED,
        more='train_cfg = dict(max_epochs=0)',
    )
    run = make_run(
        zoo,
        dataset='KITTI',
        checkpoint='/x/converted.pth',
        training_hash=None,
        training={},
        finished=None,
        initial_weights=None,
        metrics={'AbsRel': 0.062},
        units={'AbsRel': 'ratio'},
    )
    (result,) = [
        r
        for r in compare('DPT:repository EVALUATION.md', zoo, [run])
        if r.config
    ]
    assert result.measured['AbsRel'].better is None
    assert result.notes == ['ft: weights of converted.pth']
    other = run._replace(config_hash='x')
    assert refusal(other, zoo.configs['ft']) == 'config changed'


def test_compare__parameters_need_no_run(tmp_path):
    selector = {
        'Table': 'DPT:Table 9',
        'Method': 'DPT-Base',
        'Dataset': '384x384 input',
    }
    zoo = made_up(tmp_path, [selector])
    (result,) = [r for r in compare('DPT:Table 9', zoo) if r.config]
    found = result.measured['params']
    assert (found.mean, found.runs) == (112.5, 0)
    assert 'latency' not in result.measured


def test_plan__whole_model_of_a_chain_of_trainings(tmp_path):
    zoo = made_up(tmp_path, [], dataset='KITTI', tta=True)
    plan = make_plan(zoo, zoo.configs['ft'])
    assert [step.title for step in plan.steps] == [
        'Fetch the public weights',
        'Pre-train',
        'Fine-tune',
        'Test',
    ]
    assert 'checkpoints/r.pt' in plan.steps[0].command
    assert plan.steps[-1].command.endswith('ft/iter_10.pth --tta')
    assert plan.short.startswith('python tools/benchmarks/run.py ')


def test_plan__of_released_weights_trains_nothing(tmp_path):
    zoo = made_up(
        tmp_path,
        [RELEASED_ROW],
        start=RELEASED,
        more='train_cfg = dict(max_epochs=0)\nload_from = None',
    )
    plan = make_plan(zoo, zoo.configs['ft'])
    commands = [step.command for step in plan.steps]
    assert [step.title for step in plan.steps] == [
        'Fetch the public weights',
        'Convert the weights',
        'Test',
    ]
    assert 'checkpoints/released.pt' in commands[0]
    assert 'convert_dpt.py checkpoints/released.pt' in commands[1]
    assert commands[2].endswith(commands[1].split()[-1])
    assert 'tools/benchmarks/run.py' in plan.short
    assert plan.short.endswith(' --download')


def test_zoo__waits_for_what_a_pretraining_waits_for(tmp_path):
    zoo = made_up(tmp_path, [{**ABLATION, 'Dataset': 'HRWSI'}])
    path = zoo.configs['first-pre_1xb16'].path
    path.write_text(FIRST.replace("weights='released_vit'", "config='zero'"))
    zoo = Zoo(tmp_path)
    start = zoo.start(zoo.configs['ft'])
    assert start.problem == 'no pre-training config zero'


@pytest.mark.parametrize(
    ('changes', 'found'),
    [
        ({}, 'work_dirs/first/iter_10.pth'),
        ({'resume': True}, None),
        ({'model.backbone': {'init_cfg': {'checkpoint': 'a.pth'}}}, 'a.pth'),
    ],
    ids=str,
)
def test_initial_weights__of_a_whole_model(tmp_path, changes, found):
    cfg = deepcopy(made_up(tmp_path, []).configs['ft'].cfg)
    cfg.merge_from_dict(changes)
    assert isinstance(cfg, Config)
    assert initial_weights(cfg) == found
