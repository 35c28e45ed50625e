"""Patch retrieval: do patches of one thing look alike to a frozen backbone?

Every patch of the validation images takes the label that its nearest patches
of the training images vote for (cosine similarity, weights exp(s / T)). The
weights of a checkpoint are compared with untrained ones of the same config.
Nothing is trained.

Images are in DATA_ROOT/{train,val}/*.jpg or *.png, label maps of the same
names in DATA_ROOT/semantic/{train,val}/*.png (255: not labelled).

Examples:
    python tools/analysis_tools/patch_retrieval.py CONFIG CHECKPOINT
    python tools/analysis_tools/patch_retrieval.py CONFIG CHECKPOINT \
        --random 0 1 2 --size 240 320
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from PIL import Image

import mmdense  # noqa: F401
from mmdense.apis import running
from mmdense.apis.config_check import ConfigError
from mmdense.datasets.image_io import open_image
from mmdense.evaluation.functional.retrieval import (
    patch_labels,
    patch_retrieval,
)
from mmdense.models.backbones import as_tokens, load_backbone
from mmdense.registry import MODELS

ROOM_DATA = Path(__file__).parents[2] / 'demo' / 'data' / 'rooms'
# of R, G, B, where the config does not say
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of the pre-training')
    parser.add_argument(
        'checkpoint',
        help='of a run or of any project that export_backbone.py reads',
    )
    parser.add_argument(
        '--branch',
        choices=['student', 'teacher'],
        help='default: the teacher of DINO and SelfPatch, the trained '
        'encoder of the others',
    )
    parser.add_argument('--prefix', help='take the keys below this prefix')
    parser.add_argument(
        '--data-root', type=Path, default=ROOM_DATA, help='labelled images'
    )
    parser.add_argument(
        '--random',
        type=int,
        nargs='*',
        metavar='SEED',
        help='seeds of the untrained networks (default: that of the config; '
        'without a value: none)',
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='resize images to this (default: the size of the first image, '
        'rounded to whole patches)',
    )
    parser.add_argument('--k', type=int, default=20, help='voters')
    parser.add_argument(
        '--temperature', type=float, default=0.07, help='of the votes'
    )
    parser.add_argument(
        '--limit', type=int, help='use so many images of each split'
    )
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load files that hold more than tensors',
    )
    return parser.parse_args()


def find_files(root, split, limit):
    """Pairs of image and label file of a split."""
    images = sorted(
        path
        for path in (root / split).glob('*')
        if path.suffix.lower() in ('.jpg', '.jpeg', '.png')
    )
    if not images:
        raise ConfigError(
            f'No images in {root / split}: --data-root needs train/, val/ '
            'and semantic/{train,val}/.'
        )
    picked = images
    if limit is not None and limit < len(images):
        # evenly spaced: neighbouring names are views of one scene
        picked = [images[i * len(images) // limit] for i in range(limit)]
    pairs = [
        (image, root / 'semantic' / split / f'{image.stem}.png')
        for image in picked
    ]
    missing = [str(label) for _, label in pairs if not label.is_file()]
    if missing:
        raise ConfigError(
            f'{len(missing)} label maps are missing, such as {missing[0]}.'
        )
    return pairs


def read_pair(pair, size):
    """Image (3, H, W) of 0 to 255 and label map (H, W)."""
    image, _ = open_image(str(pair[0])).decode()
    labels = np.array(Image.open(pair[1]))
    if labels.ndim != 2:
        raise ConfigError(f'{pair[1]} is no map of class numbers.')
    height, width = size
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height))
    if labels.shape != (height, width):
        labels = cv2.resize(
            labels.astype(np.uint8),
            (width, height),
            interpolation=cv2.INTER_NEAREST,
        )
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return pixels.float(), torch.from_numpy(labels.astype(np.int64))


def backbone_config(cfg):
    """The backbone of a pre-training config, giving patch tokens."""
    model = cfg.get('model') or {}
    while 'backbone' not in model and 'method' in model:
        model = model['method']
    if 'backbone' not in model:
        raise ConfigError('The config has no model.backbone.')
    settings = dict(model['backbone'], init_cfg=None)
    kind = settings['type'].rsplit('.', 1)[-1]
    if kind == 'VisionTransformer':
        ours = settings['type'].startswith('mmdense.')
        settings['out_type'] = 'tokens' if ours else 'featmap'
    if kind in ('VisionTransformer', 'SwinTransformer'):
        settings['out_indices'] = -1
        if kind == 'SwinTransformer':
            arch = settings.get('arch', 'tiny')
            depths = arch['depths'] if isinstance(arch, dict) else (0,) * 4
            settings['out_indices'] = (len(depths) - 1,)
    return settings


def build_backbone(settings, seed):
    """A backbone with the weights that a seed starts with."""
    torch.manual_seed(seed)
    logger = MMLogger.get_current_instance()
    logger.setLevel('WARNING')  # a line for each parameter
    backbone = MODELS.build(settings)
    backbone.init_weights()
    logger.setLevel('INFO')
    return backbone.eval().requires_grad_(False)


def stride_of(backbone):
    """Side of a patch of the last output, in pixels."""
    stride = backbone.patch_embed.projection.stride[0]
    if hasattr(backbone, 'stages'):
        stride *= 2 ** (len(backbone.stages) - 1)
    return stride


def normalisation(cfg):
    """Mean and std (1, 3, 1, 1) of the config's RGB images."""
    given = cfg.model.get('data_preprocessor') or {}
    pairs = ((given.get('mean'), MEAN), (given.get('std'), STD))
    return [
        torch.tensor([float(v) for v in value or default]).view(1, 3, 1, 1)
        for value, default in pairs
    ]


class Images:
    """Gallery and queries, read once.

    Args:
        args (Namespace): Of the command line.
        stride (int): Of the backbone.
    """

    def __init__(self, args, stride):
        files = {
            split: find_files(args.data_root, split, args.limit)
            for split in ('train', 'val')
        }
        size = args.size
        if size is None:
            first = open_image(str(files['train'][0][0]))
            size = [
                max(1, round(side / stride)) * stride
                for side in (first.height, first.width)
            ]
        if any(side % stride for side in size):
            raise ConfigError(
                f'--size {size[0]} {size[1]} is not made of whole patches: '
                f'the backbone takes multiples of {stride}.'
            )
        self.size = tuple(size)
        self.grid = tuple(side // stride for side in size)
        self.pixels, self.labels = {}, {}
        for split, pairs in files.items():
            read = [read_pair(pair, size) for pair in pairs]
            self.pixels[split] = [pixels for pixels, _ in read]
            maps = torch.stack([labels for _, labels in read])
            self.labels[split] = patch_labels(maps, self.grid)


@torch.no_grad()
def features_of(backbone, images, split, args, cfg):
    """Patch features (I, N, D) of a split."""
    mean, std = (part.to(args.device) for part in normalisation(cfg))
    found = []
    pixels = images.pixels[split]
    for start in range(0, len(pixels), args.batch_size):
        batch = torch.stack(pixels[start : start + args.batch_size])
        batch = (batch.to(args.device) - mean) / std
        tokens = as_tokens(backbone(batch)[-1])
        if tuple(tokens.hw) != images.grid:
            raise ConfigError(
                f'The backbone gives {tokens.hw} patches of an image of '
                f'{images.size}, not {images.grid}: give another --size.'
            )
        found.append(tokens.patches.float().cpu())
    return torch.cat(found)


def score(backbone, images, args, cfg):
    """Retrieval scores of a backbone, with the seconds they took."""
    start = time.perf_counter()
    backbone = backbone.to(args.device)
    x = {
        split: features_of(backbone, images, split, args, cfg)
        for split in ('train', 'val')
    }
    y = images.labels
    result = patch_retrieval(
        x['train'], y['train'], x['val'], y['val'], args.k, args.temperature
    )
    return result, time.perf_counter() - start


def show(rows, result):
    print(f'\n{"network":40s}{"accuracy":>10s}{"mean class":>12s}{"s":>7s}')
    for name, found, seconds in rows:
        print(
            f'{name:40s}{found.accuracy:10.4f}'
            f'{found.mean_class_accuracy:12.4f}{seconds:7.0f}'
        )
    print(f'{"the most frequent class":40s}{result["most_frequent"]:10.4f}')
    print(json.dumps(result))


@running.exit_on_user_error
def main():
    args = parse_args()
    running.trust_checkpoints(args.trust_checkpoint)
    cfg = running.read_config(args.config)
    init_default_scope(cfg.get('default_scope', 'mmdense'))
    default = (cfg.get('randomness') or {}).get('seed') or 0
    seeds = [default] if args.random is None else args.random
    settings = backbone_config(cfg)
    trained = build_backbone(settings, default)
    load_backbone(
        trained, args.checkpoint, branch=args.branch, prefix=args.prefix
    )
    images = Images(args, stride_of(trained))
    counts = {split: len(y) for split, y in images.labels.items()}
    print(
        f'{counts["val"]} images of {images.size[0]}x{images.size[1]} against '
        f'{counts["train"]}, {images.grid[0]}x{images.grid[1]} patches each, '
        f'k={args.k}, T={args.temperature}'
    )
    found, seconds = score(trained, images, args, cfg)
    rows = [(Path(args.checkpoint).name[-40:], found, seconds)]
    for seed in seeds:
        other = build_backbone(settings, seed)
        rows.append(
            (f'untrained, seed {seed}', *score(other, images, args, cfg))
        )
    scores = [
        {
            'accuracy': round(part.accuracy, 4),
            'mean_class_accuracy': round(part.mean_class_accuracy, 4),
        }
        for _, part, _ in rows
    ]
    result = {
        'config': Path(args.config).name,
        'checkpoint': Path(args.checkpoint).name,
        'images': counts,
        'grid': images.grid,
        'k': args.k,
        'temperature': args.temperature,
        'patches': found.patches,
        'trained': scores[0],
        'untrained': dict(zip(seeds, scores[1:])),
        'most_frequent': round(found.most_frequent, 4),
    }
    show(rows, result)


if __name__ == '__main__':
    main()
