"""Look at the depth of a config's data sets before training on it.

Reads samples of every data set, prints percentiles and a histogram in metres,
the share of pixels without depth, files that cannot be used and a hint at a
wrong unit; writes pictures of image, depth and both laid over each other into
a report. ``--baseline`` scores predictors that give one depth everywhere with
the config's own evaluator: a trained model has to be better.

Examples:
    python tools/analysis_tools/browse_depth.py CONFIG
    python tools/analysis_tools/browse_depth.py CONFIG --raw --num 1000
    python tools/analysis_tools/browse_depth.py CONFIG --baseline

Ends with 0, with 1 if files cannot be used, with 2 for a wrong call.
"""

import argparse
import json
import logging
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import mmdense  # noqa: F401
from mmdense.apis import running
from mmdense.apis.depth_baselines import baselines, read_sample, reason_of
from mmdense.apis.stages import check_folder
from mmdense.registry import DATASETS
from mmdense.utils.data_settings import inner_datasets
from mmdense.utils.errors import UserError, UserValueError
from mmdense.visualization import (
    DepthStatistics,
    Report,
    curve_png,
    depth_panel,
    image_png,
)

_SPLITS = ('train', 'val', 'test')
_SHOWN = 10


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config with depth data sets')
    parser.add_argument(
        '--split',
        nargs='+',
        default=['train', 'val'],
        choices=_SPLITS,
        help='data loaders to look at (default: train val)',
    )
    parser.add_argument(
        '--raw',
        action='store_true',
        help='files as they are, without the augmentation of the pipeline',
    )
    parser.add_argument(
        '--num',
        type=int,
        default=200,
        help='samples per data set, evenly spaced (default: %(default)s)',
    )
    parser.add_argument(
        '--pictures',
        type=int,
        default=6,
        help='pictures per data set (default: %(default)s)',
    )
    parser.add_argument(
        '--out',
        help='folder of the report (default: work_dirs/browse_depth/NAME)',
    )
    parser.add_argument(
        '--baseline',
        action='store_true',
        help="score constant depths with the config's evaluator",
    )
    parser.add_argument('--seed', type=int, default=0, help='of the pipeline')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def raw_pipeline(pipeline):
    """The loading transforms of a pipeline."""
    return [
        step
        for step in pipeline
        if str(step['type']).rsplit('.', 1)[-1].startswith('Load')
    ]


def evenly(total, number):
    """Up to ``number`` indices from the first to the last."""
    if total <= number:
        return list(range(total))
    if number == 1:
        return [0]
    return [i * (total - 1) // (number - 1) for i in range(number)]


def name_of(config):
    """What to call a data set of a config."""
    if config.get('dataset_name'):
        return str(config['dataset_name'])
    kind = str(config['type']).rsplit('.', 1)[-1]
    return f'{kind} in {config.get("data_root", "?")}'


class Browsed:
    """What was found in one data set of a data loader."""

    def __init__(self, name, split):
        self.name = name
        self.split = split
        self.total = 0
        self.statistics = DepthStatistics()
        self.bad = []
        self.panels = []
        self.problem = ''
        self.unit = 'm'

    def lines(self):
        """The findings for the terminal."""
        yield f'{self.split}: {self.name}, {self.total:,} samples'
        if self.problem:
            yield f'  {self.problem}'
        if not self.total:
            yield f'  cannot be read: {"; ".join(self.bad)}'
            return
        for line in self.statistics.lines(self.unit):
            yield f'  {line}'
        if self.bad:
            yield f'  {len(self.bad)} samples cannot be used:'
            for line in self.bad[:_SHOWN]:
                yield f'    {line}'
            if len(self.bad) > _SHOWN:
                yield f'    ... and {len(self.bad) - _SHOWN} more'


def browse(config, split, args):
    """Read samples of one data set; returns what was found."""
    found = Browsed(name_of(config), split)
    config = deepcopy(config)
    if args.raw:
        config['pipeline'] = raw_pipeline(config.get('pipeline', []))
    try:
        dataset = DATASETS.build(config)
        found.total = len(dataset)
    except (UserError, OSError) as error:
        found.bad.append(str(error))
        return found
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserValueError(
            f'{split}_dataloader.dataset ({config["type"]}) cannot be built: '
            f'{str(error) or type(error).__name__}'
        ) from error
    found.name = getattr(dataset, 'dataset_name', found.name)
    plausible = getattr(dataset, 'plausible_range', (0.05, 200.0))
    if plausible is None:
        found.unit = 'units'
    chosen = evenly(found.total, args.num)
    shown = {chosen[i] for i in evenly(len(chosen), args.pictures)}
    for index in chosen:
        path = dataset.get_data_info(index).get('img_path', f'sample {index}')
        try:
            image, depth, _ = read_sample(dataset, index)
        except Exception as error:  # whatever a file can do to a loader
            found.bad.append(reason_of(dataset, index, error))
            continue
        found.statistics.add(depth)
        if not (depth > 0).any():
            found.bad.append(f'{path}: no pixel with depth')
        if index in shown:
            unit = 'm' if plausible is not None else '?'
            panel = depth_panel(
                image, None, depth, unit=unit, overlay=True, columns=3
            )
            found.panels.append((str(path), image_png(panel)))
    found.problem = unit_problem(found.statistics.median, plausible)
    return found


def unit_problem(median, plausible):
    """Say that a median depth is no depth in metres, '' if it may be."""
    if plausible is None or not np.isfinite(median):
        return ''
    low, high = plausible
    if low <= median <= high:
        return ''
    from mmdense.datasets.depth.units import suspected_factor

    factor = suspected_factor(median, plausible)
    hint = f'; suspected factor: {factor}' if factor else ''
    return (
        f'WARNING: the median depth is {median:.4g} m, outside of the '
        f'plausible {low:g} to {high:g} m{hint}. Check depth_rescale_factor.'
    )


def unused_lines(unused):
    """Say which samples constant depths were not scored on."""
    if not unused:
        return []
    lines = [f'{len(unused)} samples cannot be used and were not scored:']
    lines += [f'  {line}' for line in unused[:_SHOWN]]
    if len(unused) > _SHOWN:
        lines.append(f'  ... and {len(unused) - _SHOWN} more')
    return lines


def loads_depth(config):
    """Whether a data set of a config has anything to do with depth."""
    kinds = [config, *(config.get('pipeline') or [])]
    return any('depth' in str(kind.get('type', '')).lower() for kind in kinds)


def chosen_datasets(cfg, path, splits):
    """Data sets to look at, each with its split.

    Raises:
        UserValueError: If there is none, or none has depth.
    """
    chosen = [
        (config, split)
        for split in splits
        if cfg.get(f'{split}_dataloader')
        for config in inner_datasets(cfg[f'{split}_dataloader']['dataset'])
    ]
    if not chosen:
        raise UserValueError(
            f'{path} has no data loader for {", ".join(splits)}.'
        )
    if not any(loads_depth(config) for config, _ in chosen):
        raise UserValueError(
            f'{path}: no pipeline of {", ".join(splits)} loads depth '
            '(mmdense.LoadDepth), so there is no depth to look at. Give the '
            'config of a depth model or data set.'
        )
    return chosen


def write_report(found, scores, unused, title, folder):
    """Write the findings with pictures; returns the HTML file."""
    report = Report(f'Depth of {title}')
    curves = {}
    for one in found:
        report.heading(f'{one.split}: {one.name}')
        if one.problem:
            report.text(one.problem)
        stats = one.statistics
        if stats.valid:
            cells = {
                'samples': f'{one.total:,}',
                'read': f'{stats.images:,}',
                'without depth': f'{100 * stats.invalid:.1f} %',
                'least': f'{stats.least:.4g}',
                **{
                    f'{p} %': f'{stats.percentile(p):.4g}' for p in (5, 50, 95)
                },
                'largest': f'{stats.largest:.4g}',
            }
            report.table(list(cells), [list(cells.values())])
            lower, shares, _ = stats.histogram(32)
            curves[f'{one.split} {one.name}'] = (lower, shares)
        for line in one.bad[:_SHOWN]:
            report.text(f'Cannot be used: {line}')
        if one.panels:
            paths, pngs = zip(*one.panels)
            report.images(pngs, paths)
    if curves:
        report.heading('Histograms')
        png = curve_png(curves, 'share of pixels', 'depth in metres', (7, 4))
        report.images([png], ['share of pixels by depth'])
    if scores:
        report.heading('Constant depths')
        names = list(next(iter(scores.values())))
        rows = [
            [name, *(f'{s[n]:.4g}' for n in names)]
            for name, s in scores.items()
        ]
        report.table(['prediction', *names], rows)
        for line in unused_lines(unused):
            report.text(line)
    return report.write(folder)


@running.exit_on_user_error
def main() -> int:
    args = parse_args()
    if args.num < 1 or args.pictures < 0:
        raise UserValueError('--num has to be at least 1, --pictures 0.')
    title = Path(args.config).stem
    folder = args.out or f'work_dirs/browse_depth/{title}'
    check_folder(Path(folder).absolute(), '--out')
    cfg = running.read_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    chosen = chosen_datasets(cfg, args.config, args.split)
    init_default_scope(cfg.get('default_scope', 'mmdense'))
    if not MMLogger.check_instance_created('browse_depth'):
        MMLogger.get_instance('browse_depth', log_level=logging.WARNING)
    np.random.seed(args.seed)
    found = []
    for config, split in chosen:
        found.append(browse(config, split, args))
        print('\n'.join(found[-1].lines()), flush=True)
    # first: nothing that follows may cost it
    report = write_report(found, {}, [], title, folder)
    unused = []
    if args.baseline:
        train = [f.statistics for f in found if f.split == 'train']
        scores, unused = baselines(cfg, train)
        for name, values in scores.items():
            print(f'constant {name}:')
            rounded = {k: round(v, 5) for k, v in values.items()}
            print('  ' + json.dumps(rounded))
        for line in unused_lines(unused):
            print(line)
        report = write_report(found, scores, unused, title, folder)
    print(f'report: {report}')
    return 1 if unused or any(one.bad for one in found) else 0


if __name__ == '__main__':
    sys.exit(main())
