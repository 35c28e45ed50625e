"""Draw what a fine-tuned model finds on images: classes or objects."""

import argparse
import sys
from pathlib import Path
from typing import List, Tuple

from mmengine.config import DictAction
from mmengine.utils import ProgressBar

from mmdense.apis import running
from mmdense.apis.inference import DenseInferencer
from mmdense.apis.inference.base import reason_of
from mmdense.apis.inference.files import (
    InferenceWriter,
    check_targets,
    find_images,
)
from mmdense.apis.model_zoo import model_index
from mmdense.apis.stages import check_folder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='images, folders, glob patterns',
    )
    parser.add_argument('config', help='config file or name in the model zoo')
    parser.add_argument('weights', help='checkpoint of the fine-tuning')
    parser.add_argument('--out-dir', default='outputs')
    parser.add_argument(
        '--device', default='auto', help='auto, cpu, cuda, cuda:1, ...'
    )
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument(
        '--opacity', type=float, default=0.5, help='0 to 1, default 0.5'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='objects below are not drawn, default 0.3',
    )
    parser.add_argument(
        '--save-pred',
        action='store_true',
        help='write label maps (PNG) or objects (COCO json) too',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that hold more than tensors',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    for name in ('opacity', 'score_thr'):
        if not 0 <= getattr(args, name) <= 1:
            parser.error(f'--{name.replace("_", "-")} is from 0 to 1')
    if args.batch_size < 1:
        parser.error('--batch-size is 1 or more')
    return args


@running.exit_on_user_error
def main() -> None:
    args = parse_args()
    check_folder(Path(args.out_dir).absolute(), '--out-dir')
    images = find_images(args.inputs, args.out_dir)
    check_targets(images, args.out_dir, args.save_pred)
    entry = model_index().get(args.config, {})
    cfg = running.read_config(entry.get('Config', args.config))
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    model = DenseInferencer(
        cfg, args.weights, args.device, args.trust_checkpoint or None
    )
    writer = InferenceWriter(
        args.out_dir, model, args.save_pred, args.opacity, args.score_thr
    )
    skipped: List[Tuple[str, str]] = []
    bar = ProgressBar(len(images))

    def skip(name: str, reason: str) -> None:
        skipped.append((name, reason))
        bar.update()

    try:
        for found in model.predict(list(images), args.batch_size, skip):
            try:
                writer.write(found, images[found.name])
            except Exception as error:  # of one image
                skip(found.name, reason_of(error))
            else:
                bar.update()
    finally:
        predictions = writer.close()
        print()
    for name, reason in skipped:
        print(f'skipped {name}: {reason}', file=sys.stderr)
    count = len(images) - len(skipped)
    print(f'{count} of {len(images)} images: overlays in {args.out_dir}/vis')
    if predictions is not None:
        print(f'predictions in {predictions.parent}')
    if not count:
        sys.exit(1)


if __name__ == '__main__':
    main()
