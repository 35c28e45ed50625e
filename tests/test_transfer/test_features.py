"""Features in mmseg and mmdet against those of the pre-training backbone.

Each case goes the whole way: a pre-training method of a real config, made
small, is saved as a runner saves it, its backbone is exported, and a model of
a real fine-tuning config starts from that file. The maps have to be equal to
the last bit.
"""

import warnings
from contextlib import contextmanager
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from torch.nn import Identity

from mmdense.apis import export_backbone
from mmdense.models.backbones import SwinTransformer
from mmdense.registry import MODELS
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import build_model, tiny_config

pytest.importorskip('mmseg')
pytest.importorskip('mmdet')

PRE = {
    # class token in the sequence, trained encoder
    'local-global': (
        'local_global/local-global_vit-small-p16_16xb128-amp-coslr-300e_in1k'
    ),
    'moby': 'moby/moby_vit-small-p16_8xb64-amp-coslr-300e_in1k',
    # class token, teacher, positions by DINO's rule
    'dino': 'dino/dino_vit-small-p16_8xb128-amp-coslr-300e_in1k',
    # no class token, no final norm
    'selfpatch': (
        'selfpatch/selfpatch-dino_vit-small-p16_8xb128-amp-coslr-200e_in1k'
    ),
    'moby-swin': 'moby/moby_swin-tiny-w7_8xb64-amp-coslr-300e_in1k',
    'selfpatch-swin': (
        'selfpatch/selfpatch-moby_swin-tiny-w7_8xb32-amp-coslr-200e_coco'
    ),
}
DOWN = {
    'mmseg-vit': (
        'local_global/benchmarks/upernet_vit-small-p16_'
        'local-global-300e-pre_8xb2-64e_ade20k-512x512'
    ),
    'mmdet-vit': (
        'selfpatch/benchmarks/mask-rcnn_vit-small-p16_'
        'selfpatch-dino-200e-pre_8xb1-amp-12e_coco'
    ),
    'mmseg-swin': (
        'semcl/benchmarks/upernet_swin-tiny-w7_'
        'in22k-pre_8xb2-160k_ade20k-512x512'
    ),
    'mmdet-swin': (
        'selfpatch/benchmarks/mask-rcnn_swin-tiny-w7_'
        'selfpatch-moby-200e-pre_8xb1-amp-12e_coco'
    ),
}
SIZES = [(224, 224), (512, 512), (512, 1024), (800, 1333)]
CASES = [
    (pre, f'{package}-{"swin" if "swin" in pre else "vit"}')
    for pre in PRE
    for package in ('mmseg', 'mmdet')
]
each_case = pytest.mark.parametrize(
    'pre, down', CASES, ids=['-to-'.join(case) for case in CASES]
)


@cache
def _read(name):
    return Config.fromfile(str(ROOT / 'configs' / f'{name}.py'))


def _method(model):
    return model.get('method', model)


def _sized(cfg):
    """Tiny copy with the image size, window and depth that matter here."""
    cfg, real = tiny_config(cfg), cfg
    tiny = _method(cfg.model).backbone
    given = _method(real.model).backbone
    tiny.img_size = given.get('img_size', 224)
    if 'Swin' in tiny.type:
        tiny.window_size = 7
        # the second block of a stage is shifted
        tiny.arch.depths = [2, 1, 1, 2]
    else:
        tiny.arch.num_layers = 5
    return cfg


def _seeded(model):
    """Weights that no initialiser makes; the teacher has its own."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.1 * torch.randn(value.shape, generator=generator)
    return model.eval()


@cache
def _pretrained(name):
    """Method, its backbone that is exported, and the config of that."""
    cfg = _sized(_read(PRE[name]))
    model = _seeded(build_model(cfg))
    method = getattr(model, 'method', model)
    # DINO and SelfPatch on DINO hand on their teacher
    source = method.teacher if name in ('dino', 'selfpatch') else method
    return model, source.backbone, _method(cfg.model).backbone


@cache
def _exported(name, folder):
    model, _, _ = _pretrained(name)
    run, out = folder / f'{name}-epoch.pth', folder / f'{name}.pth'
    torch.save(
        {
            'meta': {'epoch': 300, 'iter': 30000, 'seed': 0},
            'state_dict': model.state_dict(),
            'message_hub': {'runtime_info': {'epoch': 300}},
            'optimizer': {'state': {}, 'param_groups': []},
        },
        run,
    )
    coverage = export_backbone(str(run), str(out))
    raw_swin = ['norm3.weight', 'norm3.bias']
    assert coverage.missing == (raw_swin if name == 'selfpatch-swin' else [])
    assert not coverage.unexpected and not coverage.mismatched
    return str(out)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('exports')


def _options(settings, down):
    """What the backbone of the fine-tuning config takes over."""
    options = {'img_size': settings.img_size}
    for name, default in (
        ('with_cls_token', True),
        ('final_norm', True),
        ('pos_embed_rule', 'size'),
    ):
        if 'vit' in down:
            options[name] = settings.get(name, default)
    return options


def _downstream(pre, down, folder, **changes):
    """Segmentor or detector that starts from the exported file."""
    return _started(pre, down, folder, tuple(sorted(changes.items())))


@cache
def _started(pre, down, folder, changes):
    _, _, settings = _pretrained(pre)
    cfg = _sized(_read(DOWN[down]))
    backbone = cfg.model.backbone
    backbone.update(_options(settings, down))
    backbone.update(dict(changes))
    backbone.init_cfg = dict(
        type='mmdense.Pretrained', checkpoint=_exported(pre, folder)
    )
    if 'vit' in down:
        # the levels of the pyramid come from layers of any depth
        backbone.out_indices = [0, 2, 3, 4]
    model = build_model(cfg, seed=7)
    assert type(model.backbone) is type(_pretrained(pre)[1])
    return model.eval()


@contextmanager
def _tapped(pre, down):
    """The pre-training backbone itself, asked for the maps of the other."""
    backbone = _pretrained(pre)[1]
    names = ['out_indices']
    changes = {'out_indices': down.out_indices}
    if isinstance(backbone, SwinTransformer):
        names = []  # needs norms of the other stages: see _swin_maps
    else:
        changes['out_type'] = down.out_type
        changes['norm_taps'] = down.norm_taps
        names += ['out_type', 'norm_taps']
    before = {name: getattr(backbone, name) for name in names}
    for name in names:
        setattr(backbone, name, changes[name])
    try:
        yield backbone
    finally:
        for name, value in before.items():
            setattr(backbone, name, value)


def _swin_maps(backbone, image, norms):
    """Maps before each merging, by a loop of its own.

    Pre-training takes the last stage alone; the norms of the others are new
    in fine-tuning, and come from there.
    """
    x, hw = backbone.patch_embed(image)
    x = backbone.drop_after_pos(x)
    maps = []
    for i, stage in enumerate(backbone.stages):
        for block in stage.blocks:
            x = block(x, hw)
        own = getattr(backbone, f'norm{i}', None)
        # SelfPatch's Swin has no norm at the end either
        norm = norms[i] if own is None or isinstance(own, Identity) else own
        out = norm(x).view(len(x), *hw, -1).permute(0, 3, 1, 2)
        maps.append(out.contiguous())
        if stage.downsample is not None:
            x, hw = stage.downsample(x, hw)
    return tuple(maps)


def _wanted(pre, model, image):
    with _tapped(pre, model.backbone) as backbone, torch.no_grad():
        if not isinstance(backbone, SwinTransformer):
            return backbone(image)
        norms = [
            getattr(model.backbone, f'norm{i}', None)
            for i in range(len(backbone.stages))
        ]
        return _swin_maps(backbone, image, norms)


def _equal(found, wanted):
    assert len(found) == len(wanted) > 1
    for i, (one, other) in enumerate(zip(found, wanted)):
        assert one.shape == other.shape and one.ndim == 4
        assert torch.isfinite(one).all() and one.std() > 1e-3
        far = (one - other).abs().max()
        assert torch.equal(one, other), f'map {i}: {far:.3g}'


@each_case
def test_features__bit_equal_at_every_size(pre, down, folder):
    model = _downstream(pre, down, folder)
    for size in SIZES:
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            found = model.backbone(image)
        _equal(found, _wanted(pre, model, image))


@pytest.mark.parametrize('pre', ['local-global', 'dino', 'moby'])
def test_features__class_token_stays_in_the_sequence(pre, folder):
    """Its attention matters to the maps, which do not contain it."""
    backbone = deepcopy(_downstream(pre, 'mmdet-vit', folder).backbone)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        before = backbone(image)
        assert before[-1].shape[2:] == (4, 6)
        # not by a constant, which the norm of the block takes out
        backbone.cls_token += torch.randn(32)
        after = backbone(image)
    # the first block mixes it in already
    assert (before[0] - after[0]).abs().max() > 1e-3


def _image(height, width):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (3, height, width), dtype=np.uint8)
    return torch.from_numpy(array)


def _by_hand(image, preprocessor, divisor):
    """RGB, normalised, zeros at the bottom and right."""
    # of ImageNet, which all of these methods were trained with
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    assert torch.equal(preprocessor.mean, mean)
    assert torch.equal(preprocessor.std, std)
    image = (image[[2, 1, 0]].float() - mean) / std
    height, width = image.shape[1:]
    return F.pad(image, (0, -width % divisor, 0, -height % divisor))[None]


def _detection_sample(size):
    from mmdet.structures import DetDataSample

    return DetDataSample(
        metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1, 1))
    )


def _segmentation_sample(size):
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, *size).long())
    return sample


@pytest.mark.parametrize(
    'pre, down',
    [c for c in CASES if c[0] in ('selfpatch', 'dino')]
    + [('moby-swin', 'mmseg-swin'), ('moby-swin', 'mmdet-swin')],
)
def test_features__through_the_data_preprocessor(pre, down, folder):
    model = _downstream(pre, down, folder)
    size = (800, 1333)
    image = _image(*size)
    # the preprocessor normalises into new tensors, but not before it flips
    given = image.clone()
    detector = down.startswith('mmdet')
    make = _detection_sample if detector else _segmentation_sample
    preprocessor = model.data_preprocessor
    if detector:
        divisor = preprocessor.pad_size_divisor
        assert divisor == 32
    elif 'vit' in down:
        divisor = preprocessor.test_cfg['size_divisor']
        assert divisor == 16
    else:
        divisor = 1  # Swin pads its maps itself
    packed = preprocessor(
        dict(inputs=[given], data_samples=[make(size)]), training=False
    )
    batch = packed['inputs']
    wanted = _by_hand(image, preprocessor, divisor)
    assert batch.shape[2:] == ((800, 1344) if divisor > 1 else size)
    assert torch.equal(batch, wanted)
    with torch.no_grad():
        found = model.backbone(batch)
    _equal(found, _wanted(pre, model, wanted))


@pytest.mark.parametrize('rule', ['size', 'scale'])
@pytest.mark.parametrize('pre', ['local-global', 'dino', 'selfpatch'])
def test_features__positions_resized_once_at_load(pre, rule, folder):
    """Configs with img_size=512: at 512 the same as on the fly."""
    model = _downstream(
        pre, 'mmseg-vit', folder, img_size=512, pos_embed_rule=rule
    )
    assert _read(DOWN['mmseg-vit']).model.backbone.img_size == 512
    extra = int(model.backbone.cls_token is not None)
    assert model.backbone.pos_embed.shape[1] == 32 * 32 + extra
    backbone = _pretrained(pre)[1]
    image = torch.randn(1, 3, 512, 512)
    before = backbone.pos_embed_rule
    backbone.pos_embed_rule = rule
    try:
        wanted = _wanted(pre, model, image)
    finally:
        backbone.pos_embed_rule = before
    with torch.no_grad():
        _equal(model.backbone(image), wanted)


def test_features__position_rule_matters(folder):
    """Why a detector has to take over the rule of its pre-training."""
    image = torch.randn(1, 3, 320, 320)
    maps = {}
    for rule in ('size', 'scale'):
        model = _downstream(
            'selfpatch', 'mmdet-vit', folder, pos_embed_rule=rule
        )
        with torch.no_grad():
            maps[rule] = model.backbone(image)[-1]
    difference = (maps['size'] - maps['scale']).abs().max()
    assert 1e-6 < difference < 0.5


def _stock_swin(package, path):
    arch = _pretrained('moby-swin')[2].arch.to_dict()
    settings = dict(
        type=f'{package}.SwinTransformer',
        window_size=7,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.0,
        init_cfg=ConfigDict(type='Pretrained', checkpoint=path),
    )
    settings.update(dict(arch=arch) if package == 'mmpretrain' else arch)
    with DefaultScope.overwrite_default_scope('mmdense'):
        model = MODELS.build(settings)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            model.init_weights()
    model.eval()  # returns nothing in mmpretrain
    return model


@pytest.mark.parametrize('package', ['mmpretrain', 'mmseg', 'mmdet'])
def test_features__stock_swin_reads_the_export(package, folder):
    _exported('moby-swin', folder)
    path = folder / f'stock-{package}.pth'
    run = folder / 'moby-swin-epoch.pth'
    export_backbone(str(run), str(path), package)
    stock = _stock_swin(package, str(path))
    backbone = _pretrained('moby-swin')[1]
    norms = [getattr(stock, f'norm{i}') for i in range(4)]
    for size in ((256, 256), (288, 352), (512, 512)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            found = stock(image)
            wanted = _swin_maps(backbone, image, norms)
        for one, other in zip(found, wanted):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('package', ['mmseg', 'mmdet'])
def test_features__stock_swin_differs_where_maps_meet_the_window(
    package, folder
):
    """At 224 the last map is one window: theirs shifts it all the same."""
    _exported('moby-swin', folder)
    path = folder / f'edge-{package}.pth'
    export_backbone(str(folder / 'moby-swin-epoch.pth'), str(path), package)
    stock = _stock_swin(package, str(path))
    backbone = _pretrained('moby-swin')[1]
    norms = [getattr(stock, f'norm{i}') for i in range(4)]
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found = stock(image)
        wanted = _swin_maps(backbone, image, norms)
    for one, other in zip(found[:3], wanted[:3]):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert (found[3] - wanted[3]).abs().max() > 1e-4
