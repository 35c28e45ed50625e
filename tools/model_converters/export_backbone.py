"""Export the backbone of a checkpoint to the layout of a toolbox."""

import argparse
import sys

from mmdense.apis.export import export_backbone
from mmdense.apis.running import exit_on_user_error
from mmdense.utils.checkpoint_keys import LAYOUTS, CoverageError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Find the backbone in a checkpoint (mmengine runner, '
        'DINO, SelfPatch, MoCo v3, SemCL, MoBY, timm, DeiT, Swin), print '
        'what is there and what is not, and write it as a plain file.'
    )
    parser.add_argument('src', help='checkpoint to read')
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--layout', choices=LAYOUTS, default='mmpretrain', help='key names'
    )
    parser.add_argument(
        '--branch',
        choices=['student', 'teacher'],
        help='default: the teacher of DINO and SelfPatch, the trained '
        'encoder of the others',
    )
    parser.add_argument(
        '--min-match',
        type=float,
        default=0.9,
        help='fail below this share of the backbone parameters',
    )
    parser.add_argument(
        '--arch',
        help='what the backbone is: deit-small, swin-tiny, resnet50, ..., or '
        'a config file; default: read off the keys',
    )
    parser.add_argument('--prefix', help='take the keys below this prefix')
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
        export_backbone(
            args.src,
            args.dst,
            layout=args.layout,
            branch=args.branch,
            min_match=args.min_match,
            arch=args.arch,
            prefix=args.prefix,
            trust=args.trust_checkpoint or None,
        )
    except CoverageError as error:
        # the table is on the standard output already
        sys.exit(f'error: {str(error).splitlines()[0]}')


if __name__ == '__main__':
    main()
