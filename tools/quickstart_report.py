"""The report of the quickstart: curves, numbers, pictures, and a verdict."""

import json
import platform
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope

import mmdense
from mmdense.registry import DATASETS, MODELS
from mmdense.utils.checkpoint import load_checkpoint_file
from mmdense.utils.versions import BOUNDS, version_of
from mmdense.visualization import (
    Report,
    color_depth,
    color_labels,
    curve_png,
    image_png,
    read_scalars,
    series,
)

ORIGINS = ('pretrained', 'random')
# task -> (metric, higher is better, how it is printed)
HEADLINE = {
    'segmentation': ('mIoU', True, '{:.1f} %'),
    'depth': ('abs_rel', False, '{:.3f}'),
}
SHOWN = {
    'segmentation': ('mIoU', 'mAcc', 'aAcc'),
    'depth': ('abs_rel', 'rmse', 'd1', 'silog'),
}
NUM_PICTURES = 4


def last_metrics(work_dir: Path) -> Dict[str, float]:
    """Metrics of the last validation; empty if there was none."""
    lines = [line for line in read_scalars(work_dir) if 'loss' not in line]
    return lines[-1] if lines else {}


def metric(line: Dict[str, float], name: str) -> float:
    """A metric by its short name, whatever prefix it was logged under."""
    for key, value in line.items():
        if key.rsplit('/', 1)[-1] == name:
            return value
    return float('nan')


def predict(
    config_path: Path, work_dir: Path, indices: List[int]
) -> List[Tuple[np.ndarray, Any]]:
    """Run a fine-tuned model on validation images.

    Args:
        config_path (Path): Config of the fine-tuning.
        work_dir (Path): Its work dir.
        indices (List[int]): Positions in the validation set.

    Returns:
        list: RGB images ``(H, W, 3)`` and the predicted data samples.
    """
    name = (work_dir / 'last_checkpoint').read_text().strip()
    cfg = Config.fromfile(config_path)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).eval()
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
    state = load_checkpoint_file(work_dir / Path(name).name)['state_dict']
    model.load_state_dict(state)
    results = []
    for index in indices:
        data = dataset[index]
        bgr = data['inputs'].permute(1, 2, 0).numpy()
        with torch.no_grad():
            sample = model.test_step(pseudo_collate([data]))[0]
        results.append((np.ascontiguousarray(bgr[..., ::-1]), sample))
    return results


def paint(task: str, sample: Any, which: str, config: Config) -> np.ndarray:
    """Colour the prediction (``'pred'``) or truth (``'gt'``) of a sample."""
    if task == 'segmentation':
        field = 'pred_sem_seg' if which == 'pred' else 'gt_sem_seg'
        labels = getattr(sample, field).data[0].cpu().numpy()
        palette = config.val_dataloader.dataset.metainfo.palette
        return color_labels(labels, palette)
    truth = sample.gt_depth_map.data.squeeze().cpu().numpy()
    field = 'pred_depth_map' if which == 'pred' else 'gt_depth_map'
    depth = getattr(sample, field).data.squeeze().float().cpu().numpy()
    low, high = np.percentile(truth[truth > 0], (2, 98))
    return color_depth(depth, low, high)


def add_pretraining(report: Report, work: Path, config: Path) -> None:
    lines = read_scalars(work / 'pretrain')
    report.heading('Pre-training')
    steps, loss = series(lines, 'loss')
    cfg = Config.fromfile(config)
    report.text(
        f'{cfg.model.type} from random weights on the demo images, '
        f'{int(steps[-1])} iterations. The loss went from {loss[0]:.2f} to '
        f'{loss[-1]:.2f}. Positives and negatives should part, and the '
        'spread of the features should stay near 1 (0 is collapse).'
    )
    report.images(
        [
            curve_png({'loss': (steps, loss)}, 'loss', 'iteration'),
            curve_png(
                {
                    'positives': series(lines, 'pos_cos'),
                    'negatives': series(lines, 'neg_cos'),
                },
                'mean cosine',
                'iteration',
            ),
            curve_png(
                {
                    'accuracy': series(lines, 'acc'),
                    'spread, global': series(lines, 'std_global'),
                    'spread, local': series(lines, 'std_local'),
                },
                'accuracy and spread',
                'iteration',
            ),
        ],
        ['pre-training loss', 'mean cosine', 'accuracy and spread'],
    )


def add_task(report: Report, work: Path, task: str, config: Path) -> str:
    """Curves, numbers and pictures of one task; returns the verdict."""
    report.heading(task.capitalize())
    name, higher, form = HEADLINE[task]
    dirs = {o: work / f'{task}_{o}' for o in ORIGINS}
    logged = {o: read_scalars(d) for o, d in dirs.items()}
    finals = {o: last_metrics(d) for o, d in dirs.items()}
    rows = [
        [origin, *(f'{metric(finals[origin], m):.4g}' for m in SHOWN[task])]
        for origin in ORIGINS
    ]
    report.table(['backbone from', *SHOWN[task]], rows)
    curves = {}
    for origin, lines in logged.items():
        tests = [line for line in lines if 'loss' not in line]
        curves[origin] = (
            [line['step'] for line in tests],
            [metric(line, name) for line in tests],
        )
    losses = {o: series(lines, 'loss') for o, lines in logged.items()}
    report.images(
        [
            curve_png(losses, 'training loss', 'iteration'),
            curve_png(curves, f'validation {name}', 'epoch'),
        ],
        [f'{task} loss', f'{task} {name}'],
    )
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        total = len(DATASETS.build(cfg.val_dataloader.dataset))
    chosen = np.linspace(0, total - 1, NUM_PICTURES).astype(int).tolist()
    predictions = {o: predict(config, d, chosen) for o, d in dirs.items()}
    grid = []
    for position in range(len(chosen)):
        image, sample = predictions['pretrained'][position]
        other = predictions['random'][position][1]
        grid.append(
            [
                image_png(image),
                image_png(paint(task, sample, 'pred', cfg)),
                image_png(paint(task, other, 'pred', cfg)),
                image_png(paint(task, sample, 'gt', cfg)),
            ]
        )
    if task == 'segmentation':
        info = cfg.val_dataloader.dataset.metainfo
        report.legend(info.classes, info.palette)
    else:
        report.text('Red is near, blue is far, in the range of the truth.')
    report.grid(
        ['input', 'prediction, pre-trained', 'prediction, random', 'truth'],
        grid,
    )
    return verdict(task, curves)


def verdict(task: str, curves: Dict[str, Tuple[list, list]]) -> str:
    """Say in words what the comparison shows, and what it cannot.

    Args:
        task (str): Key of ``HEADLINE``.
        curves (Dict[str, tuple]): Validation epochs and values per origin.

    Returns:
        str: One paragraph.
    """
    name, higher, form = HEADLINE[task]
    (epochs, ours), (_, base) = (curves[o] for o in ORIGINS)

    def gain(position: int) -> float:
        sign = 1 if higher else -1
        return sign * (ours[position] - base[position]) / base[position]

    if abs(gain(-1)) < 0.05:
        result = 'no difference that one seed could show'
    elif gain(-1) > 0:
        result = 'pre-training helped'
    else:
        result = 'pre-training did not help'
    text = (
        f'{task}: {name} {form.format(ours[-1])} from the pre-trained '
        f'backbone, {form.format(base[-1])} from random weights: {result}.'
    )
    if gain(-1) >= 0.05 or len(epochs) < 2:
        return text
    best = max(range(len(epochs)), key=gain)
    if gain(best) >= 0.05:
        text += (
            f' It led after {epochs[best]} epochs '
            f'({form.format(ours[best])} to {form.format(base[best])}) and '
            'was caught up with.'
        )
    return text + (
        ' A probable reason, not tested here: the pre-training saw some 440 '
        'small images for a few minutes, about as long as the fine-tuning '
        'with labels takes.'
    )


def add_environment(report: Report, work: Path) -> None:
    report.heading('Versions and times')
    rows = [['mmdense', mmdense.__version__]]
    rows += [[name, version_of(name)] for name in BOUNDS]
    rows += [
        ['numpy', np.__version__],
        ['Python', platform.python_version()],
        [
            'machine',
            f'{platform.machine()}, {torch.get_num_threads()} threads',
        ],
        ['device', 'cuda' if torch.cuda.is_available() else 'cpu'],
    ]
    report.table(['what', 'version'], rows)
    times = []
    for marker in sorted(work.glob('*/done.json')):
        seconds = json.loads(marker.read_text())['seconds']
        times.append([marker.parent.name, f'{seconds:.0f} s'])
    report.table(['stage', 'time'], times)


def write_report(work: Path, pretrain: Path, tasks: Dict[str, Path]) -> Path:
    """Write ``report.html`` and ``report.md``.

    Args:
        work (Path): Work dir of the quickstart.
        pretrain (Path): Config of the pre-training.
        tasks (Dict[str, Path]): Config of each fine-tuning.

    Returns:
        Path: The HTML file.
    """
    body = Report('mmdense quickstart')
    body.heading('What this run shows')
    body.text(
        'A small ViT was pre-trained without labels on a few hundred demo '
        'images, its backbone exported, and fine-tuned for segmentation and '
        'for depth on 160 rendered views of rooms. The same fine-tuning from '
        'random weights is the comparison.'
    )
    detail = Report('')
    add_pretraining(detail, work, pretrain)
    verdicts = [
        add_task(detail, work, task, config) for task, config in tasks.items()
    ]
    for verdict in verdicts:
        body.text(verdict)
    body.text(
        'One seed, minutes of training and 40 validation views of computer '
        'pictures: this shows that every part works and whether it learns. '
        'It says nothing about the quality of a model; published numbers '
        'need the full data sets and schedules.'
    )
    body.extend(detail)
    add_environment(body, work)
    return body.write(work)
