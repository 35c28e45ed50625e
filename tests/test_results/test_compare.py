import statistics

import pytest
import yaml
from mmengine.config import Config

from mmdense.results.compare import compare, measure, orphans, refusal
from mmdense.results.config_hash import config_hash
from mmdense.results.published import published_rows
from mmdense.results.rows import RunRow
from mmdense.results.zoo import Zoo

CONFIG = """
model = dict(
    type='M', backbone=dict(type='B', init_cfg=dict(checkpoint='w/a.pth'))
)
train_cfg = dict(max_iters=10)
auto_scale_lr = dict(base_batch_size=16)
benchmark = dict(
    protocol='p', dataset='ADE20K', split='val',
    pretraining=dict(method='LocalGlobal', config='pre'),
)
"""
TABLE = 'LocalGlobal:Table 1'
ENTRY = {
    'Name': 'ft',
    'Config': 'configs/m/benchmarks/ft.py',
    'Reproduces': [
        {
            'Table': TABLE,
            'Method': 'LocalGlobal',
            'Backbone': 'ViT-S/16',
            'Dataset': 'ADE20K',
            'Protocol': 'Linear',
        }
    ],
}


@pytest.fixture
def zoo(tmp_path):
    folder = tmp_path / 'configs' / 'm' / 'benchmarks'
    folder.mkdir(parents=True)
    (folder / 'ft.py').write_text(CONFIG)
    (folder.parent / 'metafile.yml').write_text(
        yaml.safe_dump({'Models': [ENTRY]})
    )
    return Zoo(tmp_path)


@pytest.fixture
def run(zoo):
    cfg = Config.fromfile(str(zoo.configs['ft'].path))

    def make(value=42.8, seed=0, **changes):
        row = RunRow(
            config='ft',
            config_hash=config_hash(cfg),
            training_hash=config_hash(cfg, test=False),
            weights_hash=f'weights {seed}',
            protocol='p',
            dataset='ADE20K',
            split='val',
            pretraining={'method': 'LocalGlobal', 'config': 'pre'},
            initial_weights='/elsewhere/a.pth',
            training={'world_size': 8, 'batch_size': 2},
            finished=True,
            metrics={'mIoU': value},
            units={'mIoU': '%'},
            seed=seed,
            time=f'2026-01-0{seed + 1}',
        )
        return row._replace(**changes)

    return make


def of_config(results):
    (result,) = [r for r in results if r.config is not None]
    return result


def test_compare__one_run(zoo, run):
    results = compare(TABLE, zoo, [run(43.0)])
    assert len(results) == 12
    result = of_config(results)
    found = result.measured['mIoU']
    assert (found.mean, found.best, found.runs) == (43.0, 43.0, 1)
    assert found.spread is None
    assert found.difference == pytest.approx(0.2)
    assert found.better is True
    assert result.refused == []


def test_compare__mean_best_and_spread_over_seeds(zoo, run):
    values = [42.0, 42.5, 43.4]
    runs = [run(value, seed) for seed, value in enumerate(values)]
    found = of_config(compare(TABLE, zoo, runs)).measured['mIoU']
    assert found.mean == pytest.approx(sum(values) / 3)
    assert found.best == 43.4
    assert found.spread == pytest.approx(statistics.stdev(values))
    assert found.runs == 3
    assert found.better is False


def test_compare__weights_tested_twice_count_once(zoo, run):
    runs = [
        run(42.0, 0),
        run(42.4, 0, time='2026-01-09'),
        run(43.0, 1),
    ]
    found = of_config(compare(TABLE, zoo, runs)).measured['mIoU']
    assert found.runs == 2
    assert found.mean == pytest.approx(42.7)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'protocol': 'q'}, 'other protocol (q)'),
        ({'dataset': 'COCO 2017'}, 'other dataset (COCO 2017)'),
        ({'split': 'train'}, 'other split (train)'),
        ({'protocol': None}, 'other protocol (None)'),
        ({'config_hash': 'x'}, 'config changed'),
        ({'config_hash': None}, 'config changed'),
        ({'training_hash': 'x'}, 'trained with another config'),
        ({'finished': False, 'steps': 4}, 'training not finished (step 4)'),
        ({'training_hash': None}, 'training unknown'),
        ({'finished': None}, 'training unknown'),
        ({'training': {}}, 'training unknown'),
        ({'training': {'world_size': 8}}, 'training unknown'),
        (
            {'training': {'world_size': 1, 'batch_size': 2}},
            'trained with 2 images a step, the recipe has 16',
        ),
        (
            {'initial_weights': None},
            'not started from the pre-trained weights',
        ),
        (
            {'initial_weights': 'w/b.pth'},
            'started from b.pth, the config names a.pth',
        ),
        ({'pretraining': None}, 'other pre-training (None)'),
        (
            {'pretraining': {'method': 'DINO', 'config': 'pre'}},
            'other pre-training (DINO)',
        ),
        (
            # run.py --weights, of a file that is no such pre-training
            {'pretraining': {'method': None, 'checkpoint': '/x/mine.pth'}},
            'other pre-training (mine.pth)',
        ),
    ],
)
def test_compare__refuses(zoo, run, changes, reason):
    bad = run(99.0, **changes)
    assert refusal(bad, zoo.configs['ft']) == reason
    result = of_config(compare(TABLE, zoo, [bad]))
    assert result.measured == {}
    assert result.refused == [f'ft: {reason}']
    shown = of_config(compare(TABLE, zoo, [bad], any_protocol=True))
    assert shown.measured['mIoU'].mean == 99.0
    assert f'compared all the same: ft: {reason}' in shown.notes


def test_compare__edited_config_refuses_old_runs(zoo, run):
    old = run()
    zoo.configs['ft'].path.write_text(CONFIG.replace("'B'", "'C'"))
    assert refusal(old, Zoo(zoo.root).configs['ft']) == 'config changed'


def test_compare__converts_fractions(zoo, run):
    row = run(metrics={'mIoU': 0.428}, units={'mIoU': 'fraction'})
    found = of_config(compare(TABLE, zoo, [row])).measured['mIoU']
    assert found.mean == pytest.approx(42.8)
    assert found.better is None


def test_compare__unit_that_does_not_convert_is_no_value(zoo, run):
    row = run(units={'mIoU': 'm'})
    assert of_config(compare(TABLE, zoo, [row])).measured == {}


def test_compare__nan_is_no_value(zoo, run):
    row = run(metrics={'mIoU': None}, not_finite=['mIoU'])
    result = of_config(compare(TABLE, zoo, [row]))
    assert result.measured == {}
    assert 'mIoU not finite' in result.notes[0]


def test_compare__a_total_batch_may_be_split(zoo, run):
    split = {'world_size': 1, 'batch_size': 2, 'accumulative_counts': 8}
    result = of_config(compare(TABLE, zoo, [run(training=split)]))
    assert (result.notes, result.refused) == ([], [])


def test_compare__weights_given_for_the_same_pretraining_are_noted(zoo, run):
    row = run(
        initial_weights='jobs/export/backbone.pth',
        pretraining={
            'method': 'LocalGlobal',
            'config': 'pre',
            'checkpoint': '/x/mine.pth',
        },
    )
    result = of_config(compare(TABLE, zoo, [row]))
    assert result.measured['mIoU'].runs == 1
    assert result.notes == ['ft: started from mine.pth']


@pytest.mark.parametrize('start', ['dict(checkpoint=None)', 'None'])
def test_compare__config_without_a_file_takes_any_but_not_none(
    zoo, run, start
):
    path = zoo.configs['ft'].path
    path.write_text(CONFIG.replace("dict(checkpoint='w/a.pth')", start))
    config = Zoo(zoo.root).configs['ft']
    assert refusal(run(initial_weights='b.pth'), config) is None
    assert refusal(run(initial_weights=None), config) == (
        'not started from the pre-trained weights'
    )


def test_compare__other_data_root_is_noted(zoo, run):
    path = zoo.configs['ft'].path
    data = "train_dataloader = dict(dataset=dict(data_root='data/coco/'))"
    path.write_text(CONFIG + data)
    zoo = Zoo(zoo.root)
    whole, training = zoo.configs['ft'].hashes
    row = run(config_hash=whole, training_hash=training, train_data='coco')
    assert of_config(compare(TABLE, zoo, [row])).notes == []
    row = row._replace(train_data='coco10percent', train_samples=11828)
    assert of_config(compare(TABLE, zoo, [row])).notes == [
        'ft: trained on coco10percent (11828 samples), the config names coco'
    ]


def test_compare__runs_refused_for_one_reason_are_counted(zoo, run):
    rows = [run(seed=seed, protocol='q') for seed in range(3)]
    result = of_config(compare(TABLE, zoo, rows))
    assert result.refused == ['ft: other protocol (q) (3 runs)']


@pytest.mark.parametrize(
    ('value', 'better'), [(0.560, True), (0.565, False), (0.5641, None)]
)
def test_measure__lower_is_better(run, value, better):
    (row,) = published_rows(
        'LocalGlobal',
        metric='RMSE',
        backbone='ViT-S/16',
        head_or_protocol='Linear',
    )
    assert row.value == 0.564
    runs = [run(metrics={'RMSE': value}, units={'RMSE': 'm'})]
    assert measure(row, runs).better is better
    runs.append(run(metrics={'RMSE': 0.5}, units={'RMSE': 'm'}))
    assert measure(row, runs).best == 0.5


def test_measure__pixel_accuracy_has_two_names(run):
    row = published_rows(metric='pixAcc')[0]
    runs = [run(metrics={'aAcc': 80.0}, units={'aAcc': '%'})]
    assert measure(row, runs).mean == 80.0


def test_orphans__runs_of_other_configs(zoo, run):
    other = run(config='mine')
    assert orphans([run(), other], zoo) == [other]
