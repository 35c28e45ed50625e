"""Export a depth estimator or segmentor to ONNX and check the file."""

import argparse

from mmdense.apis.onnx import export_onnx
from mmdense.apis.running import exit_on_user_error


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write a model with the weights of a checkpoint as ONNX '
        'for images of one size, run it with onnxruntime and compare it with '
        'PyTorch. Input "image" 1x3xHxW, output "prediction" 1xCxHxW.'
    )
    parser.add_argument('config', help='config file or name')
    parser.add_argument('checkpoint', help='weights: file or address')
    parser.add_argument('dst', help='file to write (.onnx)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        required=True,
        help='height and width in pixels, multiples of 32',
    )
    parser.add_argument(
        '--raw-input',
        action='store_true',
        help='take RGB from 0 to 255 and normalise inside; default: '
        'normalised images in the channel order of the network',
    )
    parser.add_argument(
        '--opset', type=int, default=17, help='default: %(default)s'
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-3,
        help='fail above this difference, relative to the largest output '
        '(default: %(default)s)',
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
    export_onnx(
        args.config,
        args.checkpoint,
        args.dst,
        args.size,
        raw_input=args.raw_input,
        opset=args.opset,
        tolerance=args.tolerance,
        trust=args.trust_checkpoint or None,
    )


if __name__ == '__main__':
    main()
