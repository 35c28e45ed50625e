"""Convert training checkpoints of DINO, SelfPatch and MoBY, both ways."""

import argparse
import sys

from mmdense.apis.convert import convert_pretraining
from mmdense.apis.running import exit_on_user_error
from mmdense.utils.checkpoint_keys import CoverageError
from mmdense.utils.checkpoint_keys.pretraining_names import METHODS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Turn a training checkpoint of the official DINO, '
        'SelfPatch or MoBY code (students, teachers, heads, centres, queues) '
        'into one of mmdense, or one of mmdense into the official form. '
        'Prints what is there and what is not. For a backbone alone use '
        'export_backbone.py.'
    )
    parser.add_argument('src', help='checkpoint to read')
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--to',
        choices=['mmdense', 'official'],
        help='what to write; default: the side that SRC is not of',
    )
    parser.add_argument(
        '--method',
        choices=METHODS,
        help='default: told by the keys; needed where only a backbone is '
        'there and the guess is wrong',
    )
    parser.add_argument(
        '--min-match',
        type=float,
        default=0.9,
        help='fail below this share of the values of the parts in the file',
    )
    parser.add_argument(
        '--img-size',
        type=int,
        default=224,
        help='image side in pixels for the masks of an official Swin',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load files that hold more than tensors',
    )
    return parser.parse_args()


@exit_on_user_error
def main() -> None:
    args = parse_args()
    try:
        convert_pretraining(
            args.src,
            args.dst,
            to=args.to,
            method=args.method,
            min_match=args.min_match,
            img_size=args.img_size,
            trust=args.trust_checkpoint or None,
        )
    except CoverageError as error:
        # the report is on the standard output already
        sys.exit(f'error: {str(error).splitlines()[0]}')


if __name__ == '__main__':
    main()
