import re

import pytest
import yaml

from mmdense.registry import toolbox_installed
from mmdense.results.published import lines
from mmdense.results.zoo import Zoo, configs_of_row, public_weights
from mmdense.testing.launch import ROOT
from mmdense.utils.errors import UserValueError

BACKBONES = {
    'vit-tiny-p16': {'ViT-Ti/16'},
    'vit-tiny-p8': {'ViT-Ti/8'},
    'vit-small-p16': {'ViT-S/16'},
    'vit-base-p16': {'ViT-B/16'},
    'vit-large-p16': {'ViT-L/16'},
    'vit-hybrid-p16': {'R50+ViT-B/16'},
    'deit-base-p16': {'DeiT-Base'},
    'deit-base-distilled-p16': {'DeiT-Base-Dist'},
    'swin-tiny-w7': {'Swin-T', 'Swin-T (1k)'},
    'swin-small-w7': {'Swin-S'},
    'swin-base-w7': {'Swin-B'},
    'swin-large-w7': {'Swin-L', 'Swin-L (22k)'},
    'resnet50': {'ResNet-50', 'R50'},
    'resnet101': {'ResNet-101', 'R101'},
    'resnext101-32x8d': {'ResNeXt-101 WSL'},
}
DATASETS = {
    'ade20k': 'ADE20K',
    'nyu': 'NYU Depth V2',
    'coco-stuff164k': 'COCO 2017',
    'coco': 'COCO 2017',
    'cityscapes': 'Cityscapes',
    'voc12aug': 'VOC2012',
    'voc0712': 'VOC2007',
    'kitti': 'KITTI',
    'pascal-context': 'Pascal Context',
}
SETS = {'mix3': {'HRWSI', 'BlendedMVS', 'ReDWeb', 'mean of three'}}
HEADS = {
    'linear': {'Linear', ''},
    'upproj': {'Linear'},
    'upernet': {'UPerNet', ''},
    'uper-depth': {'UPerNet'},
    'semantic-fpn': {'Semantic FPN'},
    'mask-rcnn': {'Mask R-CNN FPN'},
    'cascade': {'Cascade Mask R-CNN', ''},
    'dpt': {''},
    'binsformer': {'', 'BinsFormer (inferred)'},
}
needs_toolboxes = pytest.mark.skipif(
    not (toolbox_installed('mmseg') and toolbox_installed('mmdet')),
    reason='mmseg and mmdet are not installed',
)
ZOO = Zoo(ROOT)
REPRODUCING = [
    pytest.param(config, id=config.name)
    for config in ZOO.configs.values()
    if config.entry.get('Reproduces') and config.is_fine_tuning
]


@pytest.mark.parametrize('config', REPRODUCING)
def test_selector__fits_the_name_of_its_config(config):
    head, backbone, rest = config.name.split('_', 2)
    data = rest.rsplit('_', 1)[1]
    assert config.rows
    for rows in config.rows:
        row = rows[0]
        assert row.backbone in BACKBONES[backbone]
        sets = SETS.get(data.split('-')[0])
        if sets is None:
            name = next(v for k, v in DATASETS.items() if data.startswith(k))
            sets = {name}
        assert row.dataset in sets
        heads = next(v for k, v in HEADS.items() if head.startswith(k))
        assert row.head_or_protocol in heads
        # the start of the weights: a row of a method of ours is no baseline
        own = re.match('local-global|selfpatch|semcl', rest) is not None
        # DPT's own rows start from public weights, too
        own = own or row.paper == 'DPT'
        assert row.owned_by_paper == own, row.method


@needs_toolboxes
@pytest.mark.parametrize('config', REPRODUCING)
def test_benchmark__is_that_of_the_rows(config):
    benchmark = config.benchmark
    assert benchmark is not None
    assert benchmark['protocol']
    for rows in config.rows:
        dataset = benchmark['dataset']
        if isinstance(dataset, dict):
            assert rows[0].dataset in dataset
            assert not rows[0].split
        else:
            assert rows[0].dataset == dataset
            assert rows[0].split == benchmark['split']


def own_rows(start, dataset=''):
    return [
        key
        for key, rows in lines().items()
        if rows[0].source_table.startswith(start)
        and rows[0].owned_by_paper
        and rows[0].dataset.startswith(dataset)
    ]


@needs_toolboxes
@pytest.mark.parametrize(
    ('start', 'dataset', 'number'),
    [
        ('LocalGlobal:', '', 12),
        ('SelfPatch:', 'COCO', 1),
        ('SelfPatch:', 'ADE20K', 3),
    ],
)
def test_own_rows__have_a_config_and_weights(start, dataset, number):
    keys = own_rows(start, dataset)
    assert len(keys) == number
    for key in keys:
        assert ZOO.problems(key) == [], key


@needs_toolboxes
def test_missing__localglobal_has_none_and_quoted_rows_say_why():
    assert ZOO.missing('LocalGlobal') == {}
    others = ZOO.missing('LocalGlobal', owned=False)
    named = [key for key in others if 'beit' in key or 'simclr' in key]
    assert len(named) == 2
    for key in named:
        assert others[key][0].startswith('quoted: ')


CONFIG = """
model = dict(backbone=dict(init_cfg=dict(checkpoint='checkpoints/x.pth')))
benchmark = dict(
    protocol='p', dataset='COCO 2017', split='val2017', pretraining={source}
)
"""
SELECTOR = {
    'Table': 'SelfPatch:Table 1',
    'Method': 'MoBY',
    'Backbone': 'ViT-S/16',
    'Dataset': 'COCO 2017',
}
KEY = 'selfpatch/table-1/moby/vit-s-16/coco-2017'


def made_up(root, source, selector=SELECTOR):
    folder = root / 'configs' / 'm' / 'benchmarks'
    folder.mkdir(parents=True)
    (folder / 'ft.py').write_text(CONFIG.format(source=source))
    (root / 'configs/m/pre.py').write_text('a = 1\n')
    (root / 'configs/public_weights.yml').write_text(
        'moby-300e_vit-small-p16: {File: x.pth, URL: null}\n'
    )
    entry = {
        'Name': 'ft',
        'Config': 'configs/m/benchmarks/ft.py',
        'Reproduces': [selector],
    }
    (root / 'configs/m/metafile.yml').write_text(
        yaml.safe_dump({'Models': [entry]})
    )
    return Zoo(root)


@pytest.mark.parametrize(
    ('source', 'problem'),
    [
        ("dict(config='pre')", None),
        ("dict(weights='moby-300e_vit-small-p16')", None),
        ("dict(config='later')", 'no pre-training config later'),
        ("dict(weights='other')", 'other is not in configs/public_weights'),
        ('dict()', 'neither config nor weights'),
        ('1 / 0', 'ZeroDivisionError'),
    ],
)
def test_row__has_a_config_only_if_its_start_is_there(
    tmp_path, source, problem
):
    zoo = made_up(tmp_path, source)
    assert configs_of_row('table-1/moby', tmp_path) == [
        str(tmp_path / 'configs/m/benchmarks/ft.py')
    ]
    found = zoo.problems(KEY)
    if problem is None:
        assert found == []
        assert KEY not in zoo.missing('SelfPatch', owned=False)
    else:
        assert problem in found[0]
        assert zoo.missing('SelfPatch', owned=False)[KEY] == found


def test_metafile__wrong_selector_names_file_and_entry(tmp_path):
    zoo = made_up(tmp_path, 'dict()', {**SELECTOR, 'Backbone': 'ViT-S'})
    with pytest.raises(UserValueError, match='m/metafile.yml, ft: .*ViT-S/16'):
        _ = zoo.reproducing


def test_metafile__config_that_is_not_there(tmp_path):
    zoo = made_up(tmp_path, 'dict()')
    (tmp_path / 'configs/m/benchmarks/ft.py').unlink()
    assert zoo.problems(KEY) == ['configs/m/benchmarks/ft.py does not exist']


def test_find__nearest_names():
    with pytest.raises(UserValueError, match='dino_vit-small-p16_8xb128'):
        ZOO.find('dino_vit-small-p16_8xb128-amp-coslr-300e_in2k')


def test_root__follows_the_links_of_a_checkout(tmp_path):
    links = tmp_path / '.mim'
    links.mkdir()
    (links / 'configs').symlink_to(ROOT / 'configs')
    assert Zoo(links).root == ROOT.resolve()
    key = 'localglobal/table-1/localglobal/vit-ti-16/ade20k/linear'
    (path,) = configs_of_row(key, links)
    assert path.startswith(str(ROOT.resolve() / 'configs'))
    assert '.mim' not in path


def test_public_weights__of_the_zoo_and_of_nothing(tmp_path):
    assert public_weights() == public_weights(ROOT) == ZOO.public_weights
    assert all('File' in entry for entry in public_weights().values())
    assert public_weights(tmp_path) == {}
