"""Measure a multi-view pipeline beside those that make the same views.

All make the same views of the same files, with one thread each, in turns;
the medians over the rounds are compared (CPU time tells the same when other
programs disturb). ``stock`` is mmpretrain's
``MultiView``; ``lightly`` is the ``DINOTransform`` of the package of that
name, for configs with DINO's three kinds of crops. Normalisation is left out
everywhere; crops are uint8 in mmdense and stock, float32 in lightly.

Examples:
    python tools/analysis_tools/benchmark_loader.py CONFIG \
        --source-size 500x375 1600x1200
    python tools/analysis_tools/benchmark_loader.py CONFIG --workers 4
    python tools/analysis_tools/benchmark_loader.py \
        configs/_base_/datasets/imagenet_multi_crop.py \
        --peers stock lightly --source-size 512x512
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from functools import wraps
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import init_default_scope
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset

import mmdense  # noqa: F401
from mmdense.datasets import UnlabeledImages
from mmdense.registry import TRANSFORMS

PHOTOS = Path(__file__).parents[2] / 'demo' / 'data' / 'photos'
STAGES = ('decode', 'crop', 'colour', 'blur', 'pack', 'other')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config with MultiViewCrops')
    parser.add_argument(
        '--peers',
        nargs='+',
        default=['stock'],
        choices=['stock', 'lightly'],
        help='what to measure beside mmdense (default: stock)',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=0,
        help='0: the pipeline alone, in this process; otherwise through a '
        'DataLoader with so many workers (default: %(default)s)',
    )
    parser.add_argument('--samples', type=int, default=100, help='in a round')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument(
        '--source-size',
        nargs='+',
        default=[],
        metavar='WxH',
        help='generate JPEG files of these sizes from the demo photos '
        'instead of reading the data of the config',
    )
    parser.add_argument(
        '--quality', type=int, default=95, help='of the generated JPEG files'
    )
    parser.add_argument('--out', help='write the numbers to this JSON file')
    return parser.parse_args()


def make_sources(folder, width, height, number, quality):
    """Mosaics of photos at their own resolution, so with real detail."""
    rng = np.random.RandomState(0)
    photos = sorted(PHOTOS.glob('*.jpg'))
    for index in range(number):
        canvas = np.zeros((height, width, 3), np.uint8)
        top = 0
        while top < height:
            left, row = 0, height
            while left < width:
                tile = cv2.imread(str(photos[rng.randint(len(photos))]))
                part = tile[: height - top, : width - left]
                h, w = part.shape[:2]
                canvas[top : top + h, left : left + w] = part
                left, row = left + w, min(row, h)
            top += row
        path = str(folder / f'{index:04d}.jpg')
        cv2.imwrite(path, canvas, [cv2.IMWRITE_JPEG_QUALITY, quality])


def stock_pipeline(views):
    """The chain of stock transforms with the distributions of the views."""

    def chain(view):
        jitter = dict(
            type='mmpretrain.ColorJitter',
            brightness=view.brightness,
            contrast=view.contrast,
            saturation=view.saturation,
            hue=view.hue,
            backend='pillow',
        )
        steps = [
            dict(
                type='mmpretrain.RandomResizedCrop',
                scale=view.shape[::-1],
                crop_ratio_range=view.scale,
                aspect_ratio_range=view.ratio,
                interpolation=view.interpolation,
                backend='pillow',
            ),
            dict(type='mmcv.RandomFlip', prob=view.flip_prob),
            dict(
                type='mmcv.RandomApply',
                transforms=[jitter],
                prob=view.jitter_prob,
            ),
            dict(
                type='mmpretrain.RandomGrayscale',
                prob=view.gray_prob,
                keep_channels=True,
                channel_weights=(0.114, 0.587, 0.2989),
            ),
            dict(
                type='mmpretrain.GaussianBlur',
                magnitude_range=view.sigma,
                magnitude_std='inf',
                prob=view.blur_prob,
            ),
        ]
        if view.solarize_prob > 0:
            steps.append(
                dict(
                    type='mmpretrain.Solarize',
                    thr=view.solarize_threshold,
                    prob=view.solarize_prob,
                )
            )
        return steps

    return [
        dict(type='mmcv.LoadImageFromFile'),
        dict(
            type='mmpretrain.MultiView',
            num_views=[view.num for view in views],
            transforms=[chain(view) for view in views],
        ),
        dict(type='mmpretrain.PackInputs'),
    ]


class LightlyImages(Dataset):
    """Files through lightly's ``DINOTransform`` with the same views."""

    def __init__(self, files, views):
        from lightly.transforms.dino_transform import DINOTransform

        if [view.num for view in views[:-1]] != [1, 1] or any(
            view.interpolation != 'bicubic' for view in views
        ):
            raise ValueError(
                'DINOTransform makes two global crops, and local ones; the '
                'config has other views'
            )
        _, second, local = views
        # factors are halved inside, in one kind of view whatever is asked
        self.transform = DINOTransform(
            global_crop_size=second.size,
            global_crop_scale=second.scale,
            local_crop_size=local.size,
            local_crop_scale=local.scale,
            n_local_views=local.num,
            hf_prob=second.flip_prob,
            cj_prob=second.jitter_prob,
            cj_strength=0.5,
            cj_bright=2 * second.brightness,
            cj_contrast=2 * second.contrast,
            cj_sat=2 * second.saturation,
            cj_hue=2 * second.hue,
            random_gray_scale=second.gray_prob,
            gaussian_blur=tuple(view.blur_prob for view in views),
            sigmas=second.sigma,
            solarization_prob=second.solarize_prob,
            normalize=None,
        )
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        with Image.open(self.files[index]) as image:
            return dict(inputs=self.transform(image.convert('RGB')))


class Stopwatch:
    """Adds up the time spent in functions, by stage."""

    def __init__(self):
        self.seconds = defaultdict(float)

    def wrap(self, owner, name, stage):  # noqa: D102
        function = getattr(owner, name)

        @wraps(function)
        def timed(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.seconds[stage] += time.perf_counter() - start
            return result

        setattr(owner, name, timed)


def instrument_stock(dataset, watch):
    load, views, pack = dataset.pipeline.transforms
    watch.wrap(load, 'transform', 'decode')
    watch.wrap(pack, 'transform', 'pack')
    for chain in views.pipelines:
        stages = ['crop', 'crop', 'colour', 'colour', 'blur', 'blur']
        for step, stage in zip(chain.transforms, stages):
            watch.wrap(step, 'transform', stage)


def instrument_ours(dataset, watch):
    views, pack = dataset.pipeline.transforms
    watch.wrap(views, 'open', 'decode')
    watch.wrap(views, 'decode', 'decode')
    watch.wrap(pack, 'transform', 'pack')
    for policy in views.policies:
        watch.wrap(policy, 'cut', 'crop')
        watch.wrap(policy, 'recolor', 'colour')
        watch.wrap(policy, 'soften', 'blur')
        watch.wrap(policy, 'pack', 'pack')


def seconds_per_image(dataset, args):
    """One round: seconds and CPU seconds per image of one worker."""
    indices = [i % len(dataset) for i in range(args.samples)]
    if args.workers == 0:
        start, cpu = time.perf_counter(), time.process_time()
        for index in indices:
            dataset[index]
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
        return elapsed / args.samples, cpu / args.samples
    loader = DataLoader(
        Subset(dataset, indices),
        batch_size=args.batch_size,
        num_workers=args.workers,
        collate_fn=default_collate,
        persistent_workers=True,
    )
    for _ in loader:  # starts the workers
        pass
    start = time.perf_counter()
    for _ in loader:
        pass
    elapsed = (time.perf_counter() - start) * args.workers / args.samples
    return elapsed, float('nan')  # the workers' CPU time is not known here


def make_datasets(paths, pipeline, peers):
    """One data set for each pipeline, by name; ours is the last."""
    views = TRANSFORMS.build(pipeline[0]).policies
    ours = UnlabeledImages(paths, pipeline=pipeline)
    files = [ours.get_data_info(i)['img_path'] for i in range(len(ours))]
    datasets = {}
    for peer in peers:
        try:
            if peer == 'stock':
                stock = stock_pipeline(views)
                datasets[peer] = UnlabeledImages(paths, pipeline=stock)
            else:
                datasets[peer] = LightlyImages(files, views)
        except ImportError as error:
            print(
                f'{peer} is left out: {error}. To install it beside the '
                'environment:\n  pip install --no-deps --target PEERS -r '
                'requirements/peers.txt\nand put that folder on PYTHONPATH.'
            )
        except ValueError as error:
            print(f'{peer} is left out: {error}.')
    return {**datasets, 'mmdense': ours}


def stages_of(name, dataset, args):
    """Milliseconds per image of each stage."""
    watch = Stopwatch()
    instrument = instrument_ours if name == 'mmdense' else instrument_stock
    instrument(dataset, watch)
    start = time.perf_counter()
    for index in range(args.samples):
        dataset[index % len(dataset)]
    total = time.perf_counter() - start
    watch.seconds['other'] = total - sum(watch.seconds.values())
    return {
        stage: watch.seconds[stage] / args.samples * 1e3 for stage in STAGES
    }


def compare(paths, pipeline, args):
    """Rounds in turns, then the stages; returns the numbers."""
    datasets = make_datasets(paths, pipeline, args.peers)
    for dataset in datasets.values():
        for index in range(min(5, len(dataset))):
            dataset[index]
    times = {name: [] for name in datasets}
    for _ in range(args.rounds):
        for name, dataset in datasets.items():
            times[name].append(seconds_per_image(dataset, args))
    times = {name: np.array(pairs).T for name, pairs in times.items()}
    keys = ('rates', 'rounds', 'ratios', 'ratio_ranges', 'cpu_ratios')
    result = {key: {} for key in (*keys, 'stages')}
    for name, dataset in datasets.items():
        result['rounds'][name] = rounds = (1 / times[name][0]).tolist()
        result['rates'][name] = statistics.median(rounds)
        if name != 'mmdense':
            ratios = times[name] / times['mmdense']
            wall, cpu = np.median(ratios, axis=1).tolist()
            result['ratios'][name], result['cpu_ratios'][name] = wall, cpu
            ordered = sorted(ratios[0].tolist())
            result['ratio_ranges'][name] = [ordered[0], ordered[-1]]
        if name != 'lightly':
            result['stages'][name] = stages_of(name, dataset, args)
    return result


def show(title, result, args):
    print(f'\n{title}, workers={args.workers}, one thread each')
    for name, rate in result['rates'].items():
        rounds = result['rounds'][name]
        print(
            f'  {name:8s}{rate:8.1f} images/s per worker '
            f'(rounds {min(rounds):.1f} to {max(rounds):.1f})'
        )
    for peer, ratio in result['ratios'].items():
        low, high = result['ratio_ranges'][peer]
        print(
            f'  mmdense / {peer:8s}{ratio:6.2f} (rounds {low:.2f} to '
            f'{high:.2f}); by CPU time {result["cpu_ratios"][peer]:.2f}'
        )
    print('  ms/image' + ''.join(f'{stage:>9s}' for stage in STAGES))
    for name, stages in result['stages'].items():
        print(f'  {name:8s}' + ''.join(f'{stages[s]:9.2f}' for s in STAGES))
    stages = result['stages']['mmdense']
    worst = max(stages, key=stages.get)
    share = stages[worst] / sum(stages.values())
    print(f'  bottleneck: {worst}, {share:.0%} of the time of a worker')


def main():
    args = parse_args()
    # the workers of a training run have one thread each
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.get('default_scope', 'mmdense'))
    data = cfg.train_dataloader.dataset
    pipeline = list(data.pipeline)
    if pipeline[0]['type'].rsplit('.', 1)[-1] != 'MultiViewCrops':
        raise SystemExit(
            'error: train_dataloader.dataset.pipeline has to start with '
            f'mmdense.MultiViewCrops, not {pipeline[0]["type"]}.'
        )
    results = {}
    if not args.source_size:
        found = UnlabeledImages(data.paths, data.get('data_root') or '')
        paths = [
            found.get_data_info(i)['img_path']
            for i in range(min(len(found), args.samples))
        ]
        results['data of the config'] = compare(paths, pipeline, args)
    for size in args.source_size:
        width, height = (int(side) for side in size.split('x'))
        with tempfile.TemporaryDirectory() as folder:
            number = min(args.samples, 64)
            make_sources(Path(folder), width, height, number, args.quality)
            files = [p.stat().st_size for p in Path(folder).iterdir()]
            title = f'{size} JPEG, {statistics.mean(files) / 1e3:.0f} kB each'
            results[title] = compare(folder, pipeline, args)
    for title, result in results.items():
        show(title, result, args)
    if args.out:
        Path(args.out).write_text(json.dumps(results, indent=1))


if __name__ == '__main__':
    main()
