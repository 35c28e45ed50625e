import re
import shlex
import shutil
from pathlib import Path

import pytest

from mmdense.registry import toolbox_installed
from mmdense.results.plan import gpus_of, plan_text, plans
from mmdense.results.zoo import Zoo
from mmdense.testing.launch import ROOT
from mmdense.utils.errors import UserValueError

pytestmark = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)
ZOO = Zoo(ROOT)
OWN = 'localglobal/table-1/localglobal/vit-ti-16/ade20k/linear'
FILE = re.compile(r'(?:configs|tools)/[\w./+-]+\.(?:py|sh)')


def test_plan__own_row_from_pretraining_to_test():
    (plan,) = plans(ZOO, OWN)
    pre = 'local-global_vit-tiny-p16_16xb128-amp-coslr-300e_in1k'
    fine = 'linear_vit-tiny-p16_local-global-300e-pre_8xb2-64e_ade20k-512x512'
    configs = 'configs/local_global'
    exported = 'work_dirs/exports/local-global_vit-tiny-p16.pth'
    assert [step.command for step in plan.steps] == [
        'NNODES=2 NODE_RANK=$NODE_RANK MASTER_ADDR=$MASTER_ADDR '
        f'bash tools/dist_train.sh {configs}/{pre}.py 8',
        'python tools/model_converters/export_backbone.py '
        f'work_dirs/{pre}/epoch_300.pth {exported}',
        f'bash tools/dist_train.sh {configs}/benchmarks/{fine}.py 8',
        f'bash tools/dist_test.sh {configs}/benchmarks/{fine}.py '
        f'work_dirs/{fine}/iter_80840.pth 8',
    ]
    assert plan.problem is None
    assert plan.steps[0].hours > 10 * plan.steps[2].hours > 0


def test_plan__text_is_commands_and_comments_with_the_assumption():
    (plan,) = plans(ZOO, OWN)
    text = plan_text(plan)
    commands = [line for line in text.splitlines() if line and line[0] != '#']
    assert commands == [step.command for step in plan.steps]
    assert '(estimated)' in text
    assert 'A100 at 10% of its peak' in text
    # half and double of the estimate
    hours = plan.steps[0].hours
    said = f'{hours / 2:,.0f} to {hours * 2:,.0f} GPU-hours (estimated)'
    assert said in text
    for place in FILE.findall(text):
        assert (ROOT / place).is_file(), place


@pytest.mark.parametrize(
    'text',
    [
        'localglobal/table-1/supervised-augreg-weights-re-fine-tuned-by-the-'
        'authors/vit-s-16/ade20k',
        'localglobal/table-1/dino-official-weights-re-fine-tuned-by-the-'
        'authors/vit-b-16/ade20k',
    ],
)
def test_plan__public_weights_are_fetched_to_where_they_are_read(text):
    (plan,) = plans(ZOO, text)
    assert plan.problem is None
    fetch, train, test = plan.steps
    name = ZOO.start(ZOO.reproducing[text][0]).weights
    entry = ZOO.public_weights[name]
    if entry.get('URL'):
        assert entry['URL'] in fetch.command
        assert f'checkpoints/{entry["File"]}' in fetch.command
    else:
        assert fetch.command == ''
        assert entry['Page'] in fetch.notes[0]
    assert 'train' in train.command
    assert 'test' in test.command


def test_plan__two_protocols_are_two_plans():
    key = 'localglobal/table-2/localglobal/vit-ti-16/nyu-depth-v2/upernet'
    found = plans(ZOO, key)
    assert len(found) == 2
    for plan in found:
        for place in FILE.findall(plan_text(plan)):
            assert (ROOT / place).is_file(), place
    # one process
    assert found[0].steps[2].command.startswith('python tools/train.py')


def test_plan__quoted_row_says_why():
    with pytest.raises(UserValueError, match='BEiT publication'):
        plans(ZOO, 'beit-as-cited')


def test_plan__of_a_config():
    name = 'linear_vit-demo-p16_local-global-70e-pre_1xb8-25e_rooms-192x256'
    (plan,) = plans(ZOO, name)
    assert plan.steps[0].command == (
        'python tools/train.py configs/local_global/'
        'local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px.py'
    )


def test_gpus__from_the_name():
    assert gpus_of('a_16xb128-amp') == 16
    assert gpus_of('mask-rcnn_r50_8xb2-12e_coco') == 8
    assert gpus_of('x') == 1


def test_plan__of_an_installed_package_names_what_is_there(tmp_path):
    root = tmp_path / 'site packages' / '.mim'
    for name in ('configs', 'tools'):
        shutil.copytree(
            ROOT / name,
            root / name,
            ignore=shutil.ignore_patterns('__pycache__', '*.csv'),
        )
    zoo = Zoo(root)
    assert zoo.root == root
    (plan,) = plans(zoo, OWN)
    for command in [*(step.command for step in plan.steps), plan.short]:
        words = shlex.split(command)
        named = [w for w in words if w.endswith(('.py', '.sh'))]
        assert named
        assert [w for w in named if not Path(w).is_file()] == []
        assert str(root / 'tools') in command


@pytest.mark.parametrize(
    'name,more',
    [
        (
            'dpt_vit-hybrid-p16_dpt-ade20k-240e-pre_8xb6-50e_pascal-context-'
            '480x480',
            '--launcher pytorch --gpus 8',
        ),
        (
            'dpt_vit-hybrid-p16_dpt-kitti-pre_1xb16-0e_kitti-352x704',
            '--download',
        ),
    ],
)
def test_plan__whole_models_have_one_command_too(name, more):
    (plan,) = plans(ZOO, name)
    place = f'configs/dpt/benchmarks/{name}.py'
    assert plan.short == f'python tools/benchmarks/run.py {place} {more}'
    assert plan.short in plan_text(plan)
