"""The recipes of DINO, SelfPatch and MoBY, drawn from their config files."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as reference
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image, ImageFilter, ImageOps
from torch.nn import functional as F
from torchvision.transforms import RandomResizedCrop

from mmdense.datasets import EncodedImage, SeededSampler
from mmdense.datasets.transforms.crops import to_view
from mmdense.registry import TRANSFORMS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs' / '_base_' / 'datasets'
PHOTOS = ROOT / 'demo' / 'data' / 'photos'
RATIO = (3 / 4, 4 / 3)
# number, size, share of the area, probabilities of blur and solarisation
RECIPES = {
    'imagenet_multi_crop': (
        'bicubic',
        2.0,
        [
            (1, 224, (0.25, 1.0), 1.0, 0.0),
            (1, 224, (0.25, 1.0), 0.1, 0.2),
            (8, 96, (0.05, 0.25), 0.5, 0.0),
        ],
    ),
    'imagenet_moby_two_view': (
        'bilinear',
        2.0,
        [
            (1, 224, (0.08, 1.0), 1.0, 0.0),
            (1, 224, (0.08, 1.0), 0.1, 0.2),
        ],
    ),
    'demo_multi_crop': (
        'bicubic',
        1.0,
        [
            (1, 96, (0.25, 1.0), 1.0, 0.0),
            (1, 96, (0.25, 1.0), 0.1, 0.2),
            (4, 48, (0.05, 0.25), 0.5, 0.0),
        ],
    ),
    'demo_moby_two_view': (
        'bilinear',
        1.0,
        [(1, 96, (0.15, 1.0), 1.0, 0.0), (1, 96, (0.15, 1.0), 0.1, 0.2)],
    ),
}
KINDS = [
    pytest.param(name, index, id=f'{name}-{index}')
    for name, (_, _, kinds) in RECIPES.items()
    for index in range(len(kinds))
]
N = 4000
# some hundred comparisons are made: each at the 0.1 % level
KOLMOGOROV = 1.95
DEVIATIONS = 3.3


def load(name):
    return Config.fromfile(str(CONFIGS / f'{name}.py'))


def crops_of(name, **changes):
    cfg = load(name)
    transform = dict(cfg.train_dataloader.dataset.pipeline[0])
    return TRANSFORMS.build({**transform, **changes})


def uniform(values, low, high):
    """Kolmogorov test of values against the uniform distribution."""
    place = (np.sort(values) - low) / (high - low)
    gap = np.abs(place - np.linspace(0, 1, len(place))).max()
    return gap < KOLMOGOROV / math.sqrt(len(place))


def same_distribution(first, second):
    """Two-sample Kolmogorov-Smirnov test."""
    first, second = np.sort(first), np.sort(second)
    both = np.concatenate([first, second])
    below = [
        np.searchsorted(values, both, side='right') / len(values)
        for values in (first, second)
    ]
    scale = math.sqrt(1 / len(first) + 1 / len(second))
    return np.abs(below[0] - below[1]).max() < KOLMOGOROV * scale


def share(flags, probability):
    deviation = math.sqrt(probability * (1 - probability) / len(flags))
    return abs(np.mean(flags) - probability) <= DEVIATIONS * deviation


def geometry(boxes, width, height):
    """Area share, log aspect and relative place of (x, y, w, h) boxes."""
    x, y, w, h = np.array(boxes, dtype=float).T
    return dict(
        area=w * h / (width * height),
        aspect=np.log(w / h),
        left=x[w < width] / (width - w[w < width]),
        top=y[h < height] / (height - h[h < height]),
    )


@pytest.mark.parametrize('name', RECIPES)
def test_config__is_the_recipe(name):
    interpolation, sigma, kinds = RECIPES[name]
    policies = crops_of(name).policies
    assert len(policies) == len(kinds)
    for policy, (number, size, scale, blur, solarize) in zip(policies, kinds):
        assert (policy.num, policy.shape) == (number, (size, size))
        assert policy.scale == scale and policy.ratio == RATIO
        assert policy.interpolation == interpolation
        assert (policy.blur_prob, policy.solarize_prob) == (blur, solarize)
        assert policy.sigma == (0.1, sigma) and policy.blur_limit is None
        assert policy.flip_prob == 0.5 and policy.gray_prob == 0.2
        assert policy.jitter_prob == 0.8 and policy.hue == 0.1
        jitter = (policy.brightness, policy.contrast, policy.saturation)
        assert jitter == (0.4, 0.4, 0.2)
        assert policy.solarize_threshold == 128


@pytest.mark.parametrize('kind', ['multi_crop', 'moby_two_view'])
@pytest.mark.parametrize(
    'data, root', [('coco', 'data/coco/train2017'), ('folder', '')]
)
def test_config__other_data_same_views(data, root, kind):
    cfg, base = load(f'{data}_{kind}'), load(f'imagenet_{kind}')
    loader = cfg.train_dataloader
    assert loader.dataset.pipeline == base.train_dataloader.dataset.pipeline
    assert loader.dataset.data_root == root
    assert loader.dataset.type == 'mmdense.UnlabeledImages'
    cache = base.train_dataloader.dataset.cache_file
    assert loader.dataset.cache_file != cache
    cfg.merge_from_dict({'train_dataloader.dataset.paths': ['a', 'b']})
    assert cfg.train_dataloader.dataset.paths == ['a', 'b']


@pytest.mark.parametrize(
    'name, shapes',
    [
        ('demo_multi_crop', [(96, 96)] * 2 + [(48, 48)] * 4),
        ('demo_moby_two_view', [(96, 96)] * 2),
    ],
)
def test_demo__loads_a_batch(name, shapes, monkeypatch):
    monkeypatch.chdir(ROOT)
    init_default_scope('mmdense')
    loader = dict(load(name).train_dataloader)
    assert loader['batch_size'] == 16
    loader.update(batch_size=3, num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader, seed=0)
    assert isinstance(loader.sampler, SeededSampler)
    batch = next(iter(loader))
    found = [tuple(view.shape) for view in batch['inputs']]
    assert found == [(3, 3, *shape) for shape in shapes]
    assert all(view.dtype == torch.uint8 for view in batch['inputs'])


@pytest.mark.parametrize('name, index', KINDS)
def test_draws__crops_are_those_of_torchvision(name, index):
    width, height = 500, 375
    policy = crops_of(name).policies[index]
    random.seed(1)
    ours = geometry(
        [policy.draw(width, height).box for _ in range(N)], width, height
    )
    torch.manual_seed(1)
    image = torch.empty(3, height, width)
    scale = RECIPES[name][2][index][2]
    theirs = [
        RandomResizedCrop.get_params(image, scale, RATIO) for _ in range(N)
    ]
    theirs = geometry([(j, i, w, h) for i, j, h, w in theirs], width, height)
    for key, values in ours.items():
        assert same_distribution(values, theirs[key]), key
    # the comparison would see a recipe that is a little off
    shifted = [
        RandomResizedCrop.get_params(image, (scale[0] + 0.05, 1), RATIO)
        for _ in range(N)
    ]
    shifted = geometry([(j, i, w, h) for i, j, h, w in shifted], width, height)
    assert not same_distribution(ours['area'], shifted['area'])


def test_draws__local_crops_are_uniform_in_area_and_log_ratio():
    # so small that no draw is rejected: the stated distributions themselves
    policy = crops_of('imagenet_multi_crop').policies[2]
    random.seed(2)
    boxes = [policy.draw(2000, 2000).box for _ in range(N)]
    found = geometry(boxes, 2000, 2000)
    assert uniform(found['area'], 0.05, 0.25)
    assert uniform(found['aspect'], math.log(3 / 4), math.log(4 / 3))
    assert uniform(found['left'], 0, 1) and uniform(found['top'], 0, 1)


@pytest.mark.parametrize('name, index', KINDS)
def test_draws__flip_and_colours(name, index):
    _, sigma, kinds = RECIPES[name]
    _, _, _, blur, solarize = kinds[index]
    policy = crops_of(name).policies[index]
    random.seed(3)
    draws = [policy.draw(500, 375) for _ in range(N)]
    jitters = [d.jitter for d in draws if d.jitter is not None]
    sigmas = [d.sigma for d in draws if d.sigma is not None]
    assert share([d.flip for d in draws], 0.5)
    assert share([d.jitter is not None for d in draws], 0.8)
    assert share([d.gray for d in draws], 0.2)
    assert share([d.sigma is not None for d in draws], blur)
    assert share([d.solarize for d in draws], solarize)
    for factor, spread in (
        ('brightness', 0.4),
        ('contrast', 0.4),
        ('saturation', 0.2),
    ):
        values = [j[factor] for j in jitters]
        assert min(values) >= 1 - spread and max(values) <= 1 + spread
        assert uniform(values, 1 - spread, 1 + spread)
    hues = [j['hue'] for j in jitters]
    assert min(hues) >= -0.1 and max(hues) <= 0.1
    assert uniform(hues, -0.1, 0.1)
    assert min(sigmas) >= 0.1 and max(sigmas) <= sigma
    assert uniform(sigmas, 0.1, sigma)
    # 24 orders, chi-square with 23 degrees of freedom at the 0.1 % level
    orders = [j['order'] for j in jitters]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    expected = len(orders) / 24
    assert len(counts) == 24
    assert ((counts - expected) ** 2 / expected).sum() < 49.7


def test_transform__draws_every_view_of_an_image_for_itself(tmp_path):
    path = tmp_path / 'small.jpg'
    Image.new('RGB', (120, 90), (90, 20, 200)).save(path)
    crops = crops_of('imagenet_multi_crop', record=True)
    random.seed(4)
    rows, solarized = [], []
    for _ in range(300):
        params = crops(dict(img_path=str(path)))['view_params']
        assert [p['size'][0] for p in params] == [224] * 2 + [96] * 8
        assert params[0]['sigma'] is not None
        solarized.append([p['solarize'] for p in params])
        rows.append(
            [p['box'].width * p['box'].height for p in params]
            + [p['flip'] for p in params]
        )
    solarized = np.array(solarized)
    assert share(solarized[:, 1], 0.2)
    assert not solarized[:, [0, *range(2, 10)]].any()
    correlation = np.corrcoef(np.array(rows, dtype=float).T) - np.eye(20)
    # 190 pairs of 300 values, standard deviation 0.058
    assert np.abs(correlation).max() < 0.24


@pytest.mark.parametrize('name, index', KINDS[:5])
def test_apply__near_the_operations_of_pillow(name, index):
    """The original chains with the same choices, pixel by pixel."""
    policy = crops_of(name).policies[index]
    names = ('brightness', 'contrast', 'saturation', 'hue')
    filters = dict(bicubic=Image.BICUBIC, bilinear=Image.BILINEAR)
    random.seed(5)
    means, seen = [], set()
    for file in sorted(PHOTOS.glob('*.jpg'))[::6]:
        source = Image.open(file).convert('RGB')
        pixels = np.array(source)
        view = policy.draw(*source.size)
        left, top, width, height = view.box
        box = (left, top, left + width, top + height)
        expected = source.crop(box).resize(
            view.size, filters[policy.interpolation]
        )
        if view.flip:
            expected = ImageOps.mirror(expected)
        if view.jitter is not None:
            for kind in view.jitter['order']:
                adjust = getattr(reference, f'adjust_{names[kind]}')
                expected = adjust(expected, view.jitter[names[kind]])
        if view.gray:
            expected = expected.convert('L').convert('RGB')
        if view.sigma is not None:
            blur = ImageFilter.GaussianBlur(view.sigma)
            expected = expected.filter(blur)
        if view.solarize:
            expected = ImageOps.solarize(expected, 128)
        result = policy.apply(pixels, view).astype(float)
        difference = np.abs(result - np.asarray(expected, dtype=float))
        # values at the threshold of solarisation may fall on either side
        assert np.quantile(difference, 0.95) <= 8
        means.append(difference.mean())
        seen.add((view.gray, view.sigma is None, view.solarize))
    assert np.mean(means) < 1.0
    # Pillow's hue has whole steps, torchvision cuts the shift down to them
    assert max(means) < 4.0
    assert len(seen) >= 2


def painted(width, height, rows, columns, side):
    """Small squares on grey; their colours differ by 60 levels at least."""
    levels = (10, 70, 130, 190, 250)
    colours = [
        (r, g, b)
        for r in levels
        for g in levels
        for b in levels
        if not r == g == b
    ]
    random.Random(6).shuffle(colours)
    pixels = np.full((height, width, 3), 100, np.uint8)
    marks = []
    for index in range(rows * columns):
        row, column = divmod(index, columns)
        x = (2 * column + 1) * width // (2 * columns)
        y = (2 * row + 1) * height // (2 * rows)
        half = side // 2
        pixels[y - half : y + half, x - half : x + half] = colours[index]
        marks.append((x, y))
    return pixels, np.array(marks), np.array(colours[: len(marks)])


@pytest.mark.parametrize('reduce', [False, True])
@pytest.mark.parametrize('patch', [8, 16])
def test_transform__mark_lands_in_the_predicted_token(
    tmp_path, monkeypatch, patch, reduce
):
    """Follow painted squares into the tokens of global and local crops."""
    pixels, marks, colours = painted(2400, 1800, 9, 12, side=48)
    path = tmp_path / 'marks.jpg'
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)
    reductions = []
    stock = EncodedImage.decode

    def spy(self, reduction=1):
        reductions.append(reduction)
        return stock(self, reduction)

    monkeypatch.setattr(EncodedImage, 'decode', spy)
    crops = crops_of(
        'imagenet_multi_crop', crop_only=True, reduce=reduce, record=True
    )
    for policy in crops.policies:
        policy.flip_prob = 0.5
    random.seed(8)
    checked, flips = [0, 0], set()
    for _ in range(4):
        results = crops(dict(img_path=str(path)))
        for view, params in zip(results['img'], results['view_params']):
            size = params['size'][0]
            tensor = torch.from_numpy(view).permute(2, 0, 1)[None].float()
            tokens = F.unfold(tensor, patch, stride=patch)
            tokens = tokens.view(3, patch**2, -1).permute(2, 1, 0).numpy()
            places = to_view(
                marks, params['box'], params['size'], params['flip']
            )
            for place, colour in zip(places, colours):
                # on the view, and not on the border of two tokens
                inside = (place > 5).all() and (place < size - 5).all()
                off_middle = np.abs(place % patch - patch / 2).max()
                if not inside or off_middle > patch / 2 - 1.5:
                    continue
                close = np.abs(tokens - colour).max(axis=-1) < 30
                column, row = (place // patch).astype(int)
                found = close.sum(axis=1).argmax()
                assert close[found].sum() >= 5
                assert found == row * (size // patch) + column
                checked[size == 96] += 1
            flips.add(params['flip'])
    assert min(checked) > 40 and flips == {False, True}
    assert min(reductions) > 1 if reduce else max(reductions) == 1
