"""Convert DPT models between official, mmseg, Hugging Face and our names."""

import argparse
import sys

from mmdense.apis.convert_dpt import convert_dpt
from mmdense.apis.running import exit_on_user_error
from mmdense.utils.checkpoint_keys import CoverageError
from mmdense.utils.checkpoint_keys.dpt import DPT_LAYOUTS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Turn a DPT model of the official code (also MiDaS), of '
        'Hugging Face or of mmseg into a checkpoint that tools/test.py and '
        'tools/infer_depth.py load, or one of mmdense into their form. '
        'Prints what is there and what is not. For the backbone alone use '
        "export_backbone.py, or init_cfg=dict(type='mmdense.Pretrained')."
    )
    parser.add_argument('src', help='file to read')
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--layout',
        choices=DPT_LAYOUTS,
        help='names to write; default: mmdense, or official if SRC is of '
        'mmdense',
    )
    parser.add_argument(
        '--min-match',
        type=float,
        default=1.0,
        help="fail below this share of the model's values",
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
        convert_dpt(
            args.src,
            args.dst,
            layout=args.layout,
            min_match=args.min_match,
            trust=args.trust_checkpoint or None,
        )
    except CoverageError as error:
        # the table is on the standard output already
        sys.exit(f'error: {str(error).splitlines()[0]}')


if __name__ == '__main__':
    main()
