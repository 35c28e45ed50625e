"""Scale and shift that make a model of relative depth metric.

    python tools/analysis_tools/fit_scale_shift.py CONFIG WEIGHTS

CONFIG is that of the relative model, or of the metric fine-tuning that is to
start from it (output='inverse_affine'). Inverse depth is fitted image by
image on the training set of CONFIG, or of --data; the mean over the images
is what model.decode_head.scale and shift are to be. The images are read
without augmentation, by the test pipeline.

Depth metrics with the result are of the same images: all pixels with depth
within the range of the test's metric.

    --data CONFIG                 images of another config, in metres
    --method least_squares        instead of median and mean deviation
    --samples 200                 images, spread evenly; 0 for all
"""

import argparse
import json
from pathlib import Path

from mmdense.apis import running
from mmdense.apis.inference.base import choose_device, read_model_config
from mmdense.apis.scale_shift import (
    METHODS,
    ScaleShift,
    depth_range,
    fit_scale_shift,
    relative_model,
    training_images,
)
from mmdense.utils.errors import UserValueError

_SHOWN = 10


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='config file or name in the model zoo')
    add('weights', help='checkpoint of the whole relative model')
    add('--data', help='config whose training set is fitted to')
    add('--data-root', help='folder of that set, in place of the config')
    add('--method', choices=METHODS, default='robust')
    add('--samples', type=int, default=500, help='default: %(default)s')
    add('--min-depth', type=float, help='metres; default: of the metric')
    add('--max-depth', type=float, help='metres; default: of the metric')
    add('--no-metrics', action='store_true', help='saves half of the time')
    add('--device', default='auto', help='default: a GPU if there is one')
    add('--json', help='file for the numbers, with those of each image')
    add('--trust-checkpoint', action='store_true')
    args = parser.parse_args()
    if args.samples < 0:
        parser.error('--samples is 1 or more, or 0 for all images')
    return args


def show(found: ScaleShift, method: str) -> None:
    """Print what was found."""
    used, left = len(found.fits), len(found.bad)
    print(f'{method} fit of inverse depth, mean of {used} images')
    for name, value, std in (
        ('scale', found.scale, found.scale_std),
        ('shift', found.shift, found.shift_std),
    ):
        print(f'{name} {value:.6g} (standard deviation {std:.3g})')
    if left:
        print(f'{left} images were left out:')
        for path, reason in list(found.bad.items())[:_SHOWN]:
            print(f'  {path}: {reason}')
        if left > _SHOWN:
            print(f'  and {left - _SHOWN} more (--json FILE lists all)')
    if found.metrics:
        text = ', '.join(f'{k} {v:.4f}' for k, v in found.metrics.items())
        print(f'with them, on the same images: {text}')
    print(
        '\nfor the config:\n'
        'model = dict(\n'
        '    decode_head=dict(\n'
        "        output='inverse_affine',\n"
        f'        scale={found.scale:.6g},\n'
        f'        shift={found.shift:.6g},\n'
        '    ),\n'
        ')\n'
        'or on the command line:\n'
        f'--cfg-options model.decode_head.scale={found.scale:.6g} '
        f'model.decode_head.shift={found.shift:.6g}'
    )


@running.exit_on_user_error
def main() -> None:
    args = parse_args()
    cfg, model = relative_model(
        args.config,
        args.weights,
        choose_device(args.device),
        args.trust_checkpoint or None,
    )
    data = cfg if args.data is None else read_model_config(args.data)
    low, high = depth_range(data)
    low = low if args.min_depth is None else args.min_depth
    high = high if args.max_depth is None else args.max_depth
    if not 0 < low < (float('inf') if high is None else high):
        raise UserValueError(
            f'--min-depth {low} and --max-depth {high} are no range above 0.'
        )
    dataset = training_images(data, args.data_root)
    found = fit_scale_shift(
        model,
        dataset,
        args.method,
        args.samples or None,
        (low, high),
        not args.no_metrics,
    )
    show(found, args.method)
    if args.json:
        values = found._asdict()
        values['fits'] = {k: list(v) for k, v in found.fits.items()}
        Path(args.json).write_text(json.dumps(values, indent=2) + '\n')


if __name__ == '__main__':
    main()
