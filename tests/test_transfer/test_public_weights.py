"""The list of public weights against the configs that start from them."""

import re

import pytest
import yaml
from mmengine.config import Config

from mmdense.models.backbones import SwinTransformer, VisionTransformer
from mmdense.testing.launch import ROOT

CONFIGS = ROOT / 'configs'
FIELDS = {
    'File': str,
    'URL': (str, type(None)),
    'Page': str,
    'Method': str,
    'Data': str,
    'Epochs': (int, type(None)),
    'Layout': str,
    'Mean': list,
    'Std': list,
    'Licence': str,
    'Note': (str, type(None)),
}
KINDS = {
    *('backbone', 'dino', 'selfpatch', 'moby', 'moco', 'mocov3', 'semcl'),
    *('densecl', 'resim', 'swav', 'vissl', 'mmengine', 'dpt'),
}
LAYOUTS = {'mmpretrain', 'timm', 'detectron2'}
BACKBONE = re.compile(
    r'vit-(tiny|small|base|large|hybrid)-p(16|8)'
    r'|deit-base(-distilled)?-p16|swin-(tiny|small|base|large)-w7'
    r'|resnet(50|101)|resnext101-32x8d'
)
WEIGHTS = yaml.safe_load(
    (CONFIGS / 'public_weights.yml').read_text(encoding='utf-8')
)
# name of a file -> configs that name it themselves
USES = {}
for _path in sorted(CONFIGS.rglob('*.py')):
    for _name in re.findall(
        r'checkpoints/([^\'"\s]+)', _path.read_text(encoding='utf-8')
    ):
        USES.setdefault(_name, []).append(_path)
STARTS = sorted({p for paths in USES.values() for p in paths})


@pytest.mark.parametrize('key', sorted(WEIGHTS))
def test_entry__schema(key):
    entry = WEIGHTS[key]
    assert list(entry) == list(FIELDS)
    for name, kinds in FIELDS.items():
        assert isinstance(entry[name], kinds), name
        assert entry[name] != '', name
    assert '/' not in entry['File']
    kind, layout = entry['Layout'].split(', ')
    assert kind in KINDS and layout in LAYOUTS
    assert entry['Page'].startswith('https://')
    if entry['URL'] is None:
        # how else would one get it
        assert entry['Note']
    else:
        assert re.fullmatch(
            r'https://\S+\.(pt|pth|pth\.tar|bin|torch)', entry['URL']
        )
    for name in ('Mean', 'Std'):
        assert len(entry[name]) == 3
        assert all(1 < value < 255 for value in entry[name])


@pytest.mark.parametrize('key', sorted(WEIGHTS))
def test_key__is_origin_and_backbone(key):
    origin, _, backbone = key.partition('_')
    assert re.fullmatch(r'[a-z0-9]+(-[a-z0-9]+)*', origin)
    assert BACKBONE.fullmatch(backbone)
    length = re.search(r'-(\d+)e$', origin)
    if length:
        assert WEIGHTS[key]['Epochs'] == int(length.group(1))


def test_files__are_different():
    files = [entry['File'] for entry in WEIGHTS.values()]
    assert len(set(files)) == len(files)


def test_configs__start_from_listed_files():
    assert USES
    assert set(USES) <= {entry['File'] for entry in WEIGHTS.values()}


# what stands for another name, and the class that it asks for
ALIASES = {
    'vit-hybrid-p16': ('vit-base-p16', 'HybridVisionTransformer'),
    'deit-base-p16': ('vit-base-p16', 'VisionTransformer'),
    'deit-base-distilled-p16': ('vit-base-p16', 'DistilledVisionTransformer'),
}


def _backbone_matches(backbone, name):
    kind = backbone.type.rsplit('.', 1)[-1]
    if name in ALIASES:
        name, wanted = ALIASES[name]
        if kind != wanted:
            return False
    family, _, rest = name.partition('-')
    if family == 'resnext101':
        sizes = (backbone.depth, backbone.groups, backbone.width_per_group)
        return kind == 'ResNeXt' and sizes == (101, 32, 8)
    if family.startswith('resnet'):
        return kind == 'ResNet' and backbone.depth == int(family[6:])
    zoo = {'vit': VisionTransformer, 'swin': SwinTransformer}[family].arch_zoo
    size, _, unit = rest.partition('-')
    arch = backbone.get('arch')
    sizes = zoo[arch] if isinstance(arch, str) else arch
    key = size
    if family == 'vit' and size != 'large':
        key = 'deit-' + size
    same = sizes['embed_dims'] == zoo[key]['embed_dims']
    if family == 'swin':
        same = same and list(sizes['depths']) == list(zoo[key]['depths'])
        return same and backbone.get('window_size', 7) == int(unit[1:])
    return same and backbone.get('patch_size', 16) == int(unit[1:])


def _key(path):
    """The entry whose file a config names."""
    names = [name for name, paths in USES.items() if path in paths]
    keys = [k for k, entry in WEIGHTS.items() if entry['File'] in names]
    assert len(names) == len(keys) == 1, path
    return keys[0]


@pytest.mark.parametrize('path', STARTS, ids=[p.stem for p in STARTS])
def test_config__name_and_benchmark_say_which(path):
    assert '_base_' not in path.parts
    key = _key(path)
    origin, _, backbone = key.partition('_')
    assert f'_{backbone}_{origin}-pre_' in path.stem
    named = re.findall(r"weights='([^']+)'", path.read_text(encoding='utf-8'))
    assert named == [key]


# one config of each head and weights; the others inherit from it
READ = {(_key(p), p.stem.split('_')[0]): p for p in reversed(STARTS)}


@pytest.mark.parametrize('key, head', sorted(READ))
def test_config__agrees_with_the_entry(key, head):
    cfg = Config.fromfile(str(READ[key, head]))
    entry = WEIGHTS[key]
    backbone, preprocessor = cfg.model.backbone, cfg.model.data_preprocessor
    assert backbone.init_cfg.type == 'mmdense.Pretrained'
    assert backbone.init_cfg.checkpoint == f'checkpoints/{entry["File"]}'
    assert _backbone_matches(backbone, key.split('_')[1])
    if key.endswith('vit-small-p16'):
        arch = backbone.arch
        if isinstance(arch, str):
            arch = VisionTransformer.arch_zoo[arch]
        assert arch['num_heads'] == (12 if 'mocov3' in key else 6)
    assert list(preprocessor.mean) == entry['Mean']
    assert list(preprocessor.std) == entry['Std']
    assert preprocessor.bgr_to_rgb is True
    pretraining = cfg.benchmark.pretraining
    assert pretraining.weights == key and 'config' not in pretraining
    for name in ('epochs', 'data'):
        if pretraining.get(name) is not None:
            assert pretraining[name] == entry[name.capitalize()]
