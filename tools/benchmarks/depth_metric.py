"""mmdense.DepthMetric beside mmseg's on the same stored predictions.

Three parts, all in one run:

* values: both metrics and a float64 loop over the pixels. Where the stock
  metric is right both have to equal the loop; where it is wrong the loop
  shows the true value;
* time: both in turns, CPU and wall seconds for ``--images`` maps (goal: 2x);
* memory: peak growth of a process for each number of ``--memory-images``
  (Linux).

Exit status 1 if a value or a goal is missed.

Examples:
    python tools/benchmarks/depth_metric.py
    python tools/benchmarks/depth_metric.py --images 20 --rounds 3 --json X
"""

import argparse
import json
import multiprocessing
import os
import pickle
import statistics
import sys
import time
import warnings
from pathlib import Path

from depth_metric_values import (
    compare_values,
    evaluate,
    make_samples,
    ours,
    stock,
)

GOAL = 2.0


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--images', type=int, default=50, help='timed (default: %(default)s)')
    add('--rounds', type=int, default=5, help='default: %(default)s')
    add('--size', type=int, nargs=2, default=(480, 640), help='height, width')
    add('--threads', type=int, default=1, help='default: %(default)s')
    add(
        '--memory-images',
        type=int,
        nargs='*',
        default=(50, 100, 200),
        help='default: 50 100 200',
    )
    add('--json', type=Path, help='also write the numbers to this file')
    args = parser.parse_args(argv)
    if min(args.images, args.rounds, args.threads, *args.size) < 1:
        parser.error('all numbers have to be positive')
    return args


def compare_time(args, samples):
    """Medians over rounds of CPU and wall seconds, in turns."""
    makers = dict(ours=ours, stock=stock)
    seconds = {name: dict(cpu=[], wall=[]) for name in makers}
    for number in range(args.rounds + 1):
        for name, maker in makers.items():
            metric = maker()
            cpu, wall = time.process_time(), time.perf_counter()
            evaluate(metric, samples, args.images)
            # the first round warms up
            if number:
                seconds[name]['cpu'].append(time.process_time() - cpu)
                seconds[name]['wall'].append(time.perf_counter() - wall)
    return {
        name: {kind: statistics.median(v) for kind, v in kinds.items()}
        for name, kinds in seconds.items()
    }


def kept_bytes(samples):
    """Bytes per image that a metric keeps (and sends between processes)."""
    kept = {}
    for name, maker in (('ours', ours), ('stock', stock)):
        metric = maker()
        for sample in samples:
            metric.process(None, [sample])
        kept[name] = len(pickle.dumps(metric.results)) // len(samples)
    return kept


def _status(key):
    text = Path('/proc/self/status').read_text(encoding='utf-8')
    (line,) = [row for row in text.splitlines() if row.startswith(key)]
    return int(line.split()[1]) / 1024


def _peak(pipe, maker, samples, count):
    import torch

    torch.set_num_threads(1)
    # buffers that the first images need, whatever their number
    evaluate(maker(), samples)
    before = _status('VmRSS')
    evaluate(maker(), samples, count)
    pipe.send(_status('VmHWM') - before)
    pipe.close()


def compare_memory(counts, samples):
    """Peak growth in MiB per metric and number of images."""
    context = multiprocessing.get_context('fork')
    growth = {}
    for name, maker in (('ours', ours), ('stock', stock)):
        for count in counts:
            receive, send = context.Pipe(duplex=False)
            child = context.Process(
                target=_peak, args=(send, maker, samples, count)
            )
            child.start()
            send.close()
            growth.setdefault(name, {})[count] = receive.recv()
            child.join()
    return growth


def _cell(value):
    if value is None:
        return '-'
    return value if isinstance(value, str) else f'{value:.7g}'


def show(rows, seconds, memory, kept, args):
    """Print the tables."""
    print('Values (mean over 3 images)')
    head = ('case', 'metric', 'float64 loop', 'mmdense', 'mmseg')
    for row in (head, *rows):
        case, name, *values = row
        print(f'  {case:28}{name:19}', end='')
        print(''.join(f'{_cell(value):>14}' for value in values))
    height, width = args.size
    print(f'Time, {args.images} images of {height}x{width}, median of')
    print(f'{args.rounds} rounds, {args.threads} thread(s)')
    for kind in ('cpu', 'wall'):
        mine, other = seconds['ours'][kind], seconds['stock'][kind]
        print(
            f'  {kind:6}mmdense {1e3 * mine / args.images:7.2f} ms/image, '
            f'mmseg {1e3 * other / args.images:7.2f} ms/image, '
            f'{other / mine:.2f}x'
        )
    print(
        f'Kept per image: mmdense {kept["ours"]} bytes, '
        f'mmseg {kept["stock"]} bytes'
    )
    if memory:
        print('Peak growth of memory, MiB')
        for name, counts in memory.items():
            cells = ', '.join(
                f'{count} images {size:.1f}' for count, size in counts.items()
            )
            print(f'  {name:6}{cells}')


def main(argv=None):
    args = parse_args(argv)
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    warnings.filterwarnings('ignore')
    import torch
    from mmengine.logging import MMLogger

    import mmdense  # noqa: F401

    MMLogger.get_instance('depth_metric', log_level='ERROR')
    MMLogger.get_current_instance().setLevel('ERROR')
    torch.set_num_threads(args.threads)
    args.size = tuple(args.size)
    samples = make_samples(args.size)
    memory = {}
    # first: freed memory of the other parts would hide growth
    if args.memory_images and Path('/proc/self/status').is_file():
        memory = compare_memory(args.memory_images, samples)
    rows, right = compare_values(args.size)
    seconds = compare_time(args, samples)
    kept = kept_bytes(samples)
    show(rows, seconds, memory, kept, args)
    ratio = seconds['stock']['cpu'] / seconds['ours']['cpu']
    print(f'values right: {right}; {ratio:.2f}x (goal {GOAL:g}x)')
    if args.json:
        report = dict(
            values=rows,
            right=right,
            seconds=seconds,
            memory_mib=memory,
            kept_bytes=kept,
            size=args.size,
            images=args.images,
            threads=args.threads,
            torch=torch.__version__,
        )
        args.json.write_text(json.dumps(report, indent=1) + '\n')
    return 0 if right and ratio >= GOAL else 1


if __name__ == '__main__':
    sys.exit(main())
