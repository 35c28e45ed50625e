"""Estimate the depth of images and films with a trained model.

    python tools/infer_depth.py photos/ CONFIG WEIGHTS --out-dir seen

writes depth/NAME.png, 16-bit depth in millimetres; vis/NAME.png, its colours
(near is warm); and depth.json, which tells unit, scale, range and size of
each. Of a model of relative depth the values are inverse depth up to a scale
and a shift, stretched over the 16 bits; depth.json has minimum and maximum.
A film gives depth/NAME/000000.png, ... and vis/NAME.mp4.

CONFIG is a file or a name in the model zoo. Images take the way of its test
data, but as a whole: crops of evaluation protocols are left out.

    --save npy                   float32 arrays instead of PNG
    --save png color ply --fov 60     a point cloud too
    --scale 256                  KITTI's PNG: up to 256 m
    --tile 512 --overlap 0.25    large images in windows
    --max-side 1024              large images shrunk for the model
    --resume                     go on where an earlier call was stopped
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

from mmengine.config import DictAction
from mmengine.utils import ProgressBar

from mmdense.apis import running
from mmdense.apis.inference import DepthInferencer
from mmdense.apis.inference.base import reason_of
from mmdense.apis.inference.depth_writer import FOLDERS, FORMATS, DepthWriter
from mmdense.apis.inference.files import find_images, refuse_overwriting
from mmdense.apis.inference.video import (
    SCALINGS,
    VIDEO_EXTENSIONS,
    Film,
    infer_film,
)
from mmdense.apis.model_zoo import model_index
from mmdense.apis.stages import check_folder
from mmdense.datasets.image_index import IMAGE_EXTENSIONS
from mmdense.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='images, films, folders, glob patterns',
    )
    parser.add_argument('config', help='config file or name in the model zoo')
    parser.add_argument('weights', help='checkpoint of the depth model')
    parser.add_argument('--out-dir', default='outputs')
    parser.add_argument(
        '--save',
        nargs='+',
        choices=FORMATS,
        default=['png', 'color'],
        help='what to write, default: png color',
    )
    parser.add_argument(
        '--scale',
        type=float,
        default=1000,
        help='stored units a metre in the PNG, default 1000 (up to 65.5 m)',
    )
    parser.add_argument(
        '--range',
        type=float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='values at the ends of the colours, default: of each image',
    )
    parser.add_argument(
        '--panel',
        action='store_true',
        help='colours beside the image, with a legend',
    )
    parser.add_argument(
        '--focal', type=float, help='for ply: focal length in pixels'
    )
    parser.add_argument(
        '--fov', type=float, help='for ply: horizontal view in degrees'
    )
    parser.add_argument(
        '--device', default='auto', help='auto, cpu, cuda, cuda:1, ...'
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        help='images of one size, or windows of one image, at a time',
    )
    parser.add_argument(
        '--flip',
        action=argparse.BooleanOptionalAction,
        help='average with the mirrored image, default: as the config says',
    )
    parser.add_argument(
        '--amp', choices=['fp16', 'bf16'], help='half precision'
    )
    parser.add_argument(
        '--tile',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help='side, or height and width, of windows for larger images',
    )
    parser.add_argument(
        '--overlap',
        type=float,
        default=0.25,
        help='share of a window that its neighbour has too, default 0.25',
    )
    parser.add_argument(
        '--max-side',
        type=int,
        metavar='PIXELS',
        help='shrink larger images for the model; depth keeps their size',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='skip what an earlier call with these settings has written',
    )
    parser.add_argument(
        '--as-film',
        type=float,
        metavar='FPS',
        help='take each folder for the frames of a film',
    )
    parser.add_argument(
        '--film-range',
        choices=SCALINGS,
        default='film',
        help='colours of a film: one range for all frames (default) or one '
        'that follows them slowly',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that hold more than tensors',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    if args.batch_size < 1:
        parser.error('--batch-size is 1 or more')
    if args.tile is not None and len(args.tile) > 2:
        parser.error('--tile takes one side, or height and width')
    if args.tile is not None and len(args.tile) == 1:
        args.tile = args.tile * 2
    if args.as_film is not None and not args.as_film > 0:
        parser.error('--as-film takes frames a second, above 0')
    if 'ply' in args.save and (args.focal is None) == (args.fov is None):
        parser.error('--save ply needs either --focal or --fov')
    return args


class Report:
    """What was skipped, and the bar that shows how far it is."""

    def __init__(self) -> None:
        self.skipped: List[Tuple[str, str]] = []
        self.bar: Any = None

    def start(self, count: int) -> None:
        """Draw a new bar."""
        self.bar = ProgressBar(count)

    def skip(self, name: str, reason: str) -> None:
        """Remember what failed."""
        self.skipped.append((name, reason))
        self.bar.update()


def infer_images(
    model: DepthInferencer,
    writer: DepthWriter,
    images: Dict[str, str],
    batch_size: int,
    report: Report,
) -> Tuple[int, int]:
    """Depth of images; how many were written, and how many were there."""
    todo = [
        path for path, name in images.items() if not writer.done(path, name)
    ]
    if not todo:
        return 0, len(images)
    count = 0
    report.start(len(todo))
    for found in model.predict(todo, batch_size, report.skip):
        try:
            writer.write(found, images[found.name])
        except Exception as error:  # of one image
            report.skip(found.name, reason_of(error))
        else:
            count += 1
            report.bar.update()
    print()
    return count, len(images) - len(todo)


def infer_films(
    model: DepthInferencer,
    writer: DepthWriter,
    films: Dict[str, str],
    args: argparse.Namespace,
    report: Report,
) -> int:
    """Depth of films; how many were written."""
    count = 0
    for path, name in films.items():
        try:
            film = Film(path, args.as_film)
            report.start(film.count)
            found = infer_film(
                model,
                writer,
                film,
                name,
                args.batch_size,
                args.film_range,
                report.skip,
                report.bar.update,
            )
        except UserError as error:
            report.skipped.append((path, str(error).replace(path, 'the file')))
            continue
        count += 1
        print(
            f'\n{path}: {found["predicted"] + found["kept"]} of '
            f'{found["frames"]} frames, {found["kept"]} of them kept'
        )
        if found['complaint']:
            report.skipped.append((path, found['complaint']))
    return count


def find_inputs(
    args: argparse.Namespace,
) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Images and films, each with the name of its results."""
    folders = []
    if args.as_film is not None:
        folders = [text for text in args.inputs if Path(text).is_dir()]
    rest = [text for text in args.inputs if text not in folders]
    images: Dict[str, str] = {}
    films: Dict[str, str] = {}
    if rest:
        images = find_images(
            rest,
            args.out_dir,
            (*IMAGE_EXTENSIONS, *VIDEO_EXTENSIONS),
            FOLDERS,
        )
    for path in list(images):
        if Path(path).suffix.lower() in VIDEO_EXTENSIONS:
            films[path] = images.pop(path)
    for path in folders:
        name = Path(path).resolve().name
        while name in {*images.values(), *films.values()}:
            name += '_'
        films[path] = name
    return images, films


def check_targets(
    writer: DepthWriter, images: Dict[str, str], films: Dict[str, str]
) -> None:
    """Refuse to write a result over one of the inputs."""
    refuse_overwriting(images, lambda path, name: writer.targets(name))
    for path, name in films.items():
        for target in (
            writer.out_dir / 'depth' / name,
            writer.out_dir / 'vis' / f'{name}.mp4',
        ):
            if target.resolve() == Path(path).resolve():
                raise UserError(
                    f'The result of {path} would overwrite it. Give another '
                    '--out-dir.'
                )


@running.exit_on_user_error
def main() -> None:
    args = parse_args()
    check_folder(Path(args.out_dir).absolute(), '--out-dir')
    images, films = find_inputs(args)
    entry = model_index().get(args.config, {})
    cfg = running.read_config(entry.get('Config', args.config))
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    model = DepthInferencer(
        cfg,
        args.weights,
        args.device,
        args.trust_checkpoint or None,
        args.flip,
        args.amp,
        args.tile,
        args.overlap,
        args.max_side,
    )
    writer = DepthWriter(
        args.out_dir,
        model,
        args.save,
        args.scale,
        None if args.range is None else tuple(args.range),
        args.panel,
        args.focal,
        args.fov,
        args.resume,
    )
    check_targets(writer, images, films)
    report = Report()
    try:
        count, kept = infer_images(
            model, writer, images, args.batch_size, report
        )
        count_films = infer_films(model, writer, films, args, report)
    finally:
        index = writer.close()
    for name, reason in report.skipped:
        print(f'skipped {name}: {reason}', file=sys.stderr)
    unit = 'metres' if model.unit else 'inverse relative depth'
    print(
        f'{count + kept} of {len(images)} images ({kept} kept), '
        f'{count_films} of {len(films)} films: {unit}, see {index}'
    )
    if not count + kept + count_films:
        sys.exit(1)


if __name__ == '__main__':
    main()
