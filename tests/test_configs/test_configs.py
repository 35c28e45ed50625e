"""Every config: parses, means what its name says, builds and trains.

Configs are found by themselves; nothing has to be listed here.
"""

import json
import math
import os
import re
import subprocess
import sys
from copy import deepcopy
from functools import cache

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

import mmdense  # noqa: F401
from mmdense.apis.config_check import find_problems
from mmdense.registry import toolbox_installed
from mmdense.testing.config_names import (
    levels,
    method_of,
    name_problems,
    parse_name,
)
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import (
    build_model,
    evaluation_step,
    tiny_batch,
    tiny_config,
    train_steps,
    view_sizes,
)

FOLDER = ROOT / 'configs'
CONFIGS = sorted(
    path for path in FOLDER.rglob('*.py') if '_base_' not in path.parts
)
IDS = [str(path.relative_to(FOLDER)) for path in CONFIGS]
every_config = pytest.mark.parametrize('path', CONFIGS, ids=IDS)

# name of a parameter -> why it may go without a gradient
WITHOUT_GRADIENT = {}

FRESH = """
import json, sys
from pathlib import Path
from mmengine.config import Config
from mmdense.apis.config_check import find_problems
found = {}
for path in sys.argv[1:]:
    try:
        problems = find_problems(Config.fromfile(path), check_paths=False)
    except Exception as error:
        problems = [f'{type(error).__name__}: {error}']
    if problems:
        found[Path(path).name] = problems
print('RESULT' + json.dumps(found))
"""


@cache
def _read(path):
    return Config.fromfile(str(path))


def _need_toolboxes(path):
    """Skip a config that inherits from or builds what is not installed."""
    for toolbox in ('mmseg', 'mmdet'):
        if toolbox_installed(toolbox):
            continue
        files = [path, *FOLDER.joinpath('_base_').rglob('*.py')]
        if any(re.search(rf'\b{toolbox}[.:]', f.read_text()) for f in files):
            pytest.skip(f'{toolbox} is not installed')


def test_configs__there_are_some():
    assert CONFIGS


def test_configs__fresh_process_from_elsewhere(tmp_path):
    for path in CONFIGS:
        _need_toolboxes(path)
    done = subprocess.run(
        [sys.executable, '-c', FRESH, *map(str, CONFIGS)],
        cwd=tmp_path,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split('RESULT')[1])
    assert not found, json.dumps(found, indent=2)


@every_config
def test_config__inherits_at_most_three_levels(path):
    assert levels(path) <= 3


@every_config
def test_config__means_what_its_name_says(path):
    _need_toolboxes(path)
    assert name_problems(path, _read(path)) == []


PRIMARY_METRICS = ('mIoU', 'coco/bbox_mAP', 'pascal_voc/mAP')
# under any protocol of depth
PRIMARY_DEPTH = ('abs_rel', 'abs_rel_dev_after_affine_alignment')
# numbers that do not change what is built
_VALUES = {
    *('lr', 'weight_decay', 'drop_path_rate', 'mean', 'std', 'num_classes'),
    *('ann_file', 'init_cfg', 'outfile_prefix', '_scope_'),
}


def _structure(node):
    if isinstance(node, dict):
        return {k: _structure(v) for k, v in node.items() if k not in _VALUES}
    if isinstance(node, (list, tuple)):
        return [_structure(value) for value in node]
    return node


def _recipe(path):
    """Configs with equal recipes build the same tiny model and optimiser."""
    try:
        cfg = tiny_config(_read(path))
    except Exception:  # the test itself says what is wrong
        return path.name
    parts = (cfg.model, cfg.optim_wrapper, cfg.get('val_evaluator'))
    return json.dumps([_structure(p) for p in parts], default=str)


RECIPES = {_recipe(path): path for path in reversed(CONFIGS)}
every_recipe = pytest.mark.parametrize(
    'path',
    [path for path in CONFIGS if path in set(RECIPES.values())],
    ids=lambda path: str(path.relative_to(FOLDER)),
)


def _base_of(path):
    """Config of the same folder that a config inherits from."""
    text = path.read_text(encoding='utf-8')
    found = re.search(r"'(\./[^']+\.py)'", text)
    return path.parent / found[1] if found else None


def _flat(node, prefix=''):
    if not isinstance(node, dict):
        return {prefix: node}
    found = {}
    for key, value in node.items():
        found.update(_flat(value, f'{prefix}.{key}' if prefix else key))
    return found


# what a baseline may change: where it starts, what its weights expect
_BASELINE = re.compile(
    r'benchmark\.pretraining\.|model\.backbone\.(init_cfg\.|with_cls_token$|'
    r'arch$)|(model\.)?data_preprocessor\.(mean|std)$'
)
BASELINES = [
    path
    for path in CONFIGS
    if '_rooms-' not in path.name
    and re.search(r"weights='", path.read_text(encoding='utf-8'))
    and _base_of(path)
]


@pytest.mark.parametrize('path', BASELINES, ids=lambda path: path.stem)
def test_baseline__changes_the_start_alone(path):
    _need_toolboxes(path)
    own, base = (_flat(_read(p).to_dict()) for p in (path, _base_of(path)))
    changed = {k for k in {*own, *base} if own.get(k) != base.get(k)}
    assert changed
    assert [k for k in sorted(changed) if not _BASELINE.match(k)] == []


def test_baselines__there_are_some():
    assert len(BASELINES) > 30


def _statistics(cfg):
    settings = cfg.model.get('data_preprocessor') or cfg.data_preprocessor
    return [*settings['mean'], *settings['std']]


STEMS = {path.stem: path for path in CONFIGS}
WEIGHTS = yaml.safe_load((FOLDER / 'public_weights.yml').read_text())


@every_config
def test_config__normalises_as_its_weights_expect(path):
    _need_toolboxes(path)
    cfg = _read(path)
    start = (cfg.get('benchmark') or {}).get('pretraining', {})
    if start.get('config') in STEMS:
        before = _statistics(_read(STEMS[start['config']]))
    elif 'weights' in start:
        entry = WEIGHTS[start['weights']]
        before = [*entry['Mean'], *entry['Std']]
    else:
        return
    assert _statistics(cfg) == pytest.approx(before)


@every_recipe
def test_recipe__trains_two_tiny_steps_and_evaluates_one(path, tmp_path):
    _need_toolboxes(path)
    cfg = tiny_config(_read(path))
    model = build_model(cfg)
    batch = tiny_batch(model, view_sizes(cfg) or (64, 64))
    scope = cfg.get('default_scope', 'mmdense')
    with DefaultScope.overwrite_default_scope(scope):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {k: v.clone() for k, v in model.named_parameters()}
    done = train_steps(model, batch, wrapper)
    for logged in done.losses:
        assert 'loss' in logged
        bad = {k: v for k, v in logged.items() if not math.isfinite(v)}
        assert not bad
    missing = set(done.without_gradient) - set(WITHOUT_GRADIENT)
    assert not missing, (
        f'{sorted(missing)} get no gradient: a run on several processes '
        'would need find_unused_parameters'
    )
    optimised = {id(p) for g in wrapper.param_groups for p in g['params']}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert id(parameter) in optimised, f'{name} is not optimised'
    moved = [
        k for k, v in model.named_parameters() if not torch.equal(v, before[k])
    ]
    parts = {'backbone.' in name for name in moved}
    assert parts == {True, False}, 'the backbone or what is on it stood still'
    if hasattr(model, 'after_step'):
        assert [k for k in moved if 'teacher.' in k], 'the teacher stood still'
    if cfg.get('val_evaluator') is not None:
        metrics = evaluation_step(model, batch, cfg, tmp_path)
        values = [
            value
            for key, value in metrics.items()
            if key in PRIMARY_METRICS or key.split('/')[-1] in PRIMARY_DEPTH
        ]
        assert values
        assert all(math.isfinite(v) and v >= 0 for v in values)


METAFILES = sorted(FOLDER.rglob('metafile.yml'))


def _entries():
    return [
        (metafile, entry)
        for metafile in METAFILES
        for entry in yaml.safe_load(metafile.read_text())['Models']
    ]


def _draft(path):
    """What to add to a metafile for a config."""
    name = parse_name(path)
    return (
        f'\n  - Name: {path.stem}\n    Metadata:\n'
        f'      {name.unit.title()}: {name.length}\n'
        f'      Batch Size: {name.gpus * name.batch}\n'
        '      Training Data: ?\n      Parameters: ?\n'
        '    In Collection: ?\n    Weights: null\n'
        f'    Config: {path.relative_to(ROOT)}\n    Results: null'
    )


@every_config
def test_config__is_once_in_a_metafile(path):
    where = [
        (metafile, entry)
        for metafile, entry in _entries()
        if entry['Config'] == path.relative_to(ROOT).as_posix()
    ]
    assert where, f'no metafile.yml lists it; add{_draft(path)}'
    assert len(where) == 1, [str(metafile) for metafile, _ in where]
    (_, entry) = where[0]
    name = parse_name(path)
    assert entry['Name'] == path.stem
    assert entry['Metadata'][name.unit.title()] == name.length
    assert entry['Metadata']['Batch Size'] == name.gpus * name.batch


@every_config
def test_config__is_in_the_readme(path):
    folder = path.parents[1 if path.parent.name == 'benchmarks' else 0]
    link = f'({path.relative_to(folder).as_posix()})'
    assert link in (folder / 'README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize(
    'metafile', METAFILES, ids=[str(m.relative_to(FOLDER)) for m in METAFILES]
)
def test_metafile__is_complete(metafile):
    content = yaml.safe_load(metafile.read_text())
    collections = {c['Name'] for c in content['Collections']}
    for collection in content['Collections']:
        assert (ROOT / collection['README']).is_file()
        assert collection['Paper']['Title'] and collection['Paper']['URL']
    for entry in content['Models']:
        name = entry['Name']
        assert (ROOT / entry['Config']).is_file(), f'{name}: no such config'
        assert entry['In Collection'] in collections, name
        assert 'Weights' in entry and 'Results' in entry, name
        assert entry['Metadata']['Training Data'], name
        assert entry['Metadata']['Parameters'] > 0, name
        if entry['Results']:
            assert entry['Weights'], f'{name}: results need their weights'


def test_model_index__imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text()) or {}
    found = sorted(m.relative_to(ROOT).as_posix() for m in METAFILES)
    assert sorted(index.get('Import') or []) == found


@cache
def _parameters(model, scope):
    from mmdense.registry import MODELS

    with DefaultScope.overwrite_default_scope(scope):
        built = MODELS.build(Config(json.loads(model)).model)
    return sum(
        p.numel() for k, p in built.named_parameters() if 'teacher.' not in k
    )


@pytest.mark.slow
@every_config
def test_metafile__parameters_are_those_of_the_model(path):
    _need_toolboxes(path)
    stated = {e['Config']: e['Metadata']['Parameters'] for _, e in _entries()}
    cfg = deepcopy(_read(path))
    method_of(cfg.model).backbone.init_cfg = None
    # baselines build the model of their method
    cfg.model.data_preprocessor.update(mean=[0.0] * 3, std=[1.0] * 3)
    model = json.dumps({'model': cfg.model.to_dict()})
    count = _parameters(model, cfg.default_scope)
    assert stated[path.relative_to(ROOT).as_posix()] == count


STUDENT_TEACHER = [
    path
    for path in CONFIGS
    if path.parent.name in ('dino', 'moby', 'selfpatch')
]
every_student_teacher = pytest.mark.parametrize(
    'path',
    STUDENT_TEACHER,
    ids=[str(path.relative_to(FOLDER)) for path in STUDENT_TEACHER],
)
GPU = [path for path in STUDENT_TEACHER if '-amp-' in path.name]


@pytest.mark.parametrize('path', GPU, ids=[path.stem for path in GPU])
def test_config__learning_rate_follows_the_batch(path):
    cfg, name = _read(path), parse_name(path)
    dino = method_of(cfg.model)['type'] == 'mmdense.DINO'
    rate, images = (5e-4, 256) if dino else (1e-3, 512)
    want = rate * name.gpus * name.batch / images
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(want, rel=1e-12)
    assert cfg.optim_wrapper.dtype == 'float16'


@every_student_teacher
def test_config__queues_fit_the_batch(path):
    cfg, name = _read(path), parse_name(path)
    model = cfg.model
    size = method_of(model).loss.get('queue_size')
    if size is None:
        return
    batch = name.gpus * name.batch
    assert size % batch == 0
    patch_loss = model.get('patch_loss', {})
    if patch_loss.get('negatives') == 'queue':
        assert patch_loss.queue_size % (2 * batch) == 0


@every_student_teacher
def test_config__watches_what_the_model_logs(path):
    cfg = _read(path)
    kinds = [hook.type for hook in cfg.default_hooks.values()]
    assert 'mmdense.CollapseMonitorHook' in kinds
    assert 'mmdense.FeatureMonitorHook' in kinds
    wrapped = 'method' in cfg.model
    assert ('mmdense.PatchMatchMonitorHook' in kinds) == wrapped
    frozen = 'mmdense.FreezeLastLayerHook' in str(cfg.get('custom_hooks'))
    assert frozen == (method_of(cfg.model).neck.type == 'mmdense.DINOHead')


WRAPPED = [path for path in STUDENT_TEACHER if path.parent.name == 'selfpatch']


@pytest.mark.parametrize('path', WRAPPED, ids=[path.stem for path in WRAPPED])
def test_selfpatch_config__aggregation_has_the_heads_of_the_backbone(path):
    from mmdense.registry import MODELS

    model = _read(path).model
    backbone = model.method.backbone
    arch = backbone.arch
    if isinstance(arch, str):
        arch = MODELS.get(backbone.type).arch_zoo[arch]
    heads = arch['num_heads']
    heads = heads if isinstance(heads, int) else heads[-1]
    assert model.aggregation.num_heads == heads


@pytest.mark.parametrize(
    'change',
    [
        {'method.neck.in_channels': 384},
        {'method.loss.out_channels': 32768},
        {'aggregation.embed_dims': 384},
        {'patch_head.in_channels': 384},
        {'patch_head.out_channels': 8192},
    ],
    ids=lambda change: next(iter(change)),
)
def test_tiny_config__what_does_not_fit_still_does_not(change):
    path = FOLDER / 'selfpatch'
    path /= 'selfpatch-dino_vit-tiny-p16_8xb32-amp-coslr-200e_coco.py'
    cfg = deepcopy(_read(path))

    def loss():
        model = build_model(tiny_config(cfg))
        data = tiny_batch(model, (64, 64, 48))
        return model.loss(**model.data_preprocessor(data))

    assert loss()['loss_patch'] > 0
    cfg.merge_from_dict({f'model.{k}': v for k, v in change.items()})
    with pytest.raises((RuntimeError, ValueError)):
        loss()


def test_tiny_config__is_small():
    path = next(p for p in WRAPPED if 'vit-base' in p.name)
    model = build_model(tiny_config(_read(path)))
    assert sum(p.numel() for p in model.parameters()) < 2e5


def test_find_problems__sees_mistakes_in_a_real_config():
    path = next(p for p in CONFIGS if '_in1k' in p.name)
    cfg = deepcopy(_read(path))
    cfg.model.backbone.patch_sise = 16
    problems = find_problems(cfg, check_paths=False)
    assert [p for p in problems if 'patch_sise' in p]


@pytest.mark.parametrize(
    'old,new,said',
    [
        ('vit-small', 'vit-base', 'should be (768'),
        ('p16', 'p8', 'patch_size=16'),
        ('1xb128', '2xb128', 'base_batch_size'),
        ('1xb128', '1xb64', 'batch is 128'),
        ('-amp', '', 'optim_wrapper'),
        ('300e', '100e', '300 epochs'),
        ('_in1k', '_in1k-384px', 'trains on'),
    ],
)
def test_name_problems__sees_a_wrong_name(old, new, said):
    path = FOLDER / 'local_global'
    path /= 'local-global_vit-small-p16_1xb128-amp-coslr-300e_in1k.py'
    wrong = path.with_name(path.name.replace(old, new))
    assert [p for p in name_problems(wrong, _read(path)) if said in p]


@pytest.mark.parametrize(
    'old,new,said',
    [
        ('linear', 'upernet', 'upernet builds fcnhead'),
        ('linear', 'semantic-fpn', 'semantic-fpn builds fcnhead'),
        ('linear', 'mask-rcnn', 'mask-rcnn builds fcnhead'),
        ('local-global-300e', 'dino', 'starts from'),
        ('local-global-300e', 'local-global-100e', 'comes from'),
        ('vit-small-p16', 'resnet50', 'depth'),
        ('-64e', '-60e', '64 epochs'),
        ('-64e', '-80k', '80840 iterations'),
        ('8xb2', '4xb4', 'batch is 2'),
        ('ade20k', 'cityscapes', 'cityscapes reads ADE20KDataset'),
        ('ade20k', 'moon', 'teach this data'),
        ('512x512', '512x1024', 'trains on (512, 512)'),
        ('-512x512', '', 'trains on (512, 512)'),
    ],
)
def test_name_problems__sees_a_wrong_benchmark_name(old, new, said):
    path = FOLDER / 'local_global/benchmarks'
    path /= (
        'linear_vit-small-p16_local-global-300e-pre_8xb2-64e_ade20k-512x512.py'
    )
    assert name_problems(path, _read(path)) == []
    wrong = path.with_name(path.name.replace(old, new))
    found = name_problems(wrong, _read(path))
    assert [p for p in found if said in p], found


@pytest.mark.parametrize(
    'change,said',
    [
        ({'benchmark.pretraining.weights': 'x'}, 'either config or weights'),
        ({'benchmark.pretraining.epochs': 9}, 'with 9 epochs'),
        ({'model.backbone.init_cfg.checkpoint': 'a.pth'}, 'from a.pth, not'),
        ({'benchmark': None}, "lacks ['dataset'"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_name_problems__sees_another_start(change, said):
    path = FOLDER / 'local_global/benchmarks'
    path /= (
        'linear_vit-small-p16_local-global-300e-pre_8xb2-64e_ade20k-512x512.py'
    )
    cfg = deepcopy(_read(path))
    cfg.merge_from_dict(change)
    found = name_problems(path, cfg)
    assert [p for p in found if said in p], found


@pytest.mark.parametrize(
    'old,new,said',
    [
        ('selfpatch-dino-k8', 'selfpatch-dino', 'top_k is 8, the name says 4'),
        ('-k8', '-k2', 'top_k is 8, the name says 2'),
        ('-k8', '-k8-n5', 'window is 3, the name says 5'),
        ('-k8', '-k8-nall', "the name says 'all'"),
        ('-k8', '-k8-mean', "patch_target is 'attention'"),
        ('-k8', '-k8-lambda1', 'loss_weight is 0.1, the name says 1.0'),
        ('-k8', '-k8-noneg', 'negatives is None'),
        ('-k8', '-k8-q3', 'q3 is no switch of SelfPatch'),
        ('selfpatch-dino', 'selfpatch-moby', 'moby builds dino'),
        ('selfpatch-dino', 'dino-dino', 'dino builds selfpatch'),
        ('vit-tiny', 'vit-small', 'should be (384'),
        ('p16', 'p8', 'patch_size=16'),
        ('200e', '300e', '200 epochs'),
    ],
)
def test_name_problems__sees_a_wrong_selfpatch_name(old, new, said):
    path = FOLDER / 'selfpatch'
    path /= 'selfpatch-dino-k8_vit-tiny-p16_8xb32-amp-coslr-200e_coco.py'
    assert name_problems(path, _read(path)) == []
    wrong = path.with_name(path.name.replace(old, new))
    assert [p for p in name_problems(wrong, _read(path)) if said in p]


def test_name_problems__sees_another_method():
    path = FOLDER / 'dino/dino_vit-small-p16_8xb128-amp-coslr-300e_in1k.py'
    for word in ('moby', 'dino-k8'):
        wrong = path.with_name(path.name.replace('dino', word))
        assert f'{word} builds dino' in name_problems(wrong, _read(path))


@pytest.mark.parametrize(
    'name', ['localglobal.py', 'benchmarks/linear_vit-small-p16_8xb2_ade.py']
)
def test_parse_name__rejects_other_grammars(name):
    with pytest.raises(ValueError, match='is no name of a'):
        parse_name(FOLDER / 'local_global' / name)
