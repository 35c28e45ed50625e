"""Check a data set on the disk; it is only read.

    python tools/dataset_converters/check.py voc0712 data/VOCdevkit
    python tools/dataset_converters/check.py coco --task pretraining --full
    python tools/dataset_converters/check.py cityscapes --how
    python tools/dataset_converters/check.py --list

Ends with 0 if the data set can be used, 1 if not, 2 for a wrong call.
"""

import argparse
import json
import os
import sys

from mmdense.apis.running import exit_on_user_error
from mmdense.datasets import layouts
from mmdense.utils.errors import UserValueError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f'Data sets: {", ".join(layouts.LAYOUTS)}, segmentation (own '
        'images and label maps), depth (own images and depth maps).',
    )
    parser.add_argument('dataset', nargs='?', help='name of the data set')
    parser.add_argument(
        'root',
        nargs='?',
        default='',
        help="its folder, by default the configs'",
    )
    parser.add_argument('--split', nargs='+', help='splits to check')
    parser.add_argument(
        '--task', nargs='+', help='check what these tasks need alone'
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        '--sample',
        type=int,
        default=200,
        metavar='N',
        help='files to open per part (default: 200)',
    )
    size.add_argument('--full', action='store_true', help='open all files')
    parser.add_argument(
        '--subset',
        action='store_true',
        help='a part of the data set will do: compare no counts but those '
        'of categories',
    )
    parser.add_argument('--workers', type=int, default=4, help='threads')
    parser.add_argument('--json', metavar='FILE', help='write the report')
    parser.add_argument('--list', action='store_true', help='draw the layouts')
    parser.add_argument(
        '--format', choices=['text', 'markdown'], default='text'
    )
    parser.add_argument(
        '--how', action='store_true', help='say how to get the data set'
    )
    own = parser.add_argument_group(
        'own data (data sets "segmentation" and "depth")'
    )
    own.add_argument('--images', default='images', help='folder in ROOT')
    own.add_argument(
        '--labels',
        help='folder in ROOT (default: annotations, for depth: depth)',
    )
    own.add_argument('--image-suffix', default='.jpg')
    own.add_argument('--label-suffix', default='.png')
    own.add_argument('--num-classes', type=int, default=256)
    own.add_argument(
        '--ignore', type=int, default=255, help='-1 for no such value'
    )
    own.add_argument('--list-file', default='', help='names that count')
    own.add_argument(
        '--scale',
        type=float,
        default=1e-3,
        help='depth: metres per stored unit, 0 if unknown (default: 0.001)',
    )
    return parser.parse_args()


def choose_layout(args: argparse.Namespace) -> layouts.Layout:
    kind = args.dataset.lower()
    if kind == 'depth':
        return layouts.depth_layout(
            args.images,
            args.labels or 'depth',
            args.image_suffix,
            args.label_suffix,
            args.scale,
            args.list_file,
        )
    if kind != 'segmentation':
        return layouts.get_layout(args.dataset)
    return layouts.segmentation_layout(
        args.images,
        args.labels or 'annotations',
        args.image_suffix,
        args.label_suffix,
        args.num_classes,
        None if args.ignore < 0 else args.ignore,
        args.list_file,
    )


def prepare_report(path: str, root: str) -> None:
    """Refuse a file that cannot be written, before the long run."""
    inside = os.path.join(os.path.realpath(root), '')
    if os.path.realpath(path).startswith(inside):
        raise UserValueError(
            f'--json {path} lies in the data set, where nothing is written. '
            'Choose another folder.'
        )
    if not path or os.path.isdir(path):
        raise UserValueError(
            f'--json {path!r} is no file. Give one, as in report.json.'
        )
    if os.path.exists(path):
        if not os.access(path, os.W_OK):
            raise UserValueError(f'--json {path} is read-only.')
        return
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, 'x'):
            pass
        os.remove(path)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: str, error: OSError) -> UserValueError:
    return UserValueError(
        f'--json {path} cannot be written: {error}. Choose another file.'
    )


def write_report(path: str, report: layouts.Report) -> None:
    try:
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(report.to_dict(), file, indent=1)
    except OSError as error:
        raise unwritable(path, error) from error


@exit_on_user_error
def main() -> int:
    args = parse_args()
    # names of files need not be of the terminal's characters
    sys.stdout.reconfigure(errors='backslashreplace')
    if args.list:
        chosen = [choose_layout(args)] if args.dataset else None
        render = dict(text=layouts.as_text, markdown=layouts.as_markdown)
        print(render[args.format](chosen or layouts.LAYOUTS.values()), end='')
        if args.format == 'text':
            print()
        return 0
    if args.dataset is None:
        raise UserValueError(
            'Which data set? --list shows them, as in: check.py ade20k '
            'data/ade/ADEChallengeData2016'
        )
    layout = choose_layout(args)
    if args.how:
        print(layouts.how_to_get(layout))
        return 0
    if args.sample < 1:
        raise UserValueError(f'--sample {args.sample}: give at least 1.')
    root = args.root or layout.root
    if args.json is not None:
        prepare_report(args.json, root)
    report = layouts.check_dataset(
        layout,
        root,
        args.split,
        args.task,
        'any' if args.subset else 'published',
        None if args.full else args.sample,
        args.workers,
        progress=args.full or sys.stderr.isatty(),
    )
    print('\n'.join(report.lines()))
    if args.json is not None:
        write_report(args.json, report)
    return 0 if report.ok else 1


if __name__ == '__main__':
    sys.exit(main())
