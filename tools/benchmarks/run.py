"""From a table row or a config to a number: export, fine-tune, test.

A config with ``load_from`` starts from a whole model, which is converted
where its names are not ours; one with ``max_epochs=0`` is tested alone.
Each stage runs the command a user would run; ``log.txt`` in its folder has
the output. Call again to continue what was interrupted: a finished stage is
run again only if its weights, its config or its options have changed.
"""

import argparse
import difflib
import fcntl
import os.path as osp
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

from mmengine.config import Config, DictAction

from mmdense.apis import running
from mmdense.apis.model_zoo import model_index
from mmdense.apis.stages import check_folder, run_stages
from mmdense.apis.transfer import TransferJob
from mmdense.apis.transfer_weights import MissingWeightsError, readable_path
from mmdense.apis.transfer_whole import (
    WholeModelJob,
    starts_whole,
    trains_nothing,
)
from mmdense.utils.errors import UserError, UserValueError

TOOLS = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'target', help='config file, name in the model zoo, or table row'
    )
    parser.add_argument(
        '--weights',
        help='training checkpoint of any layout, or an exported backbone; '
        'for configs with load_from a whole model, also one of the authors '
        'of DPT or of Hugging Face. Default: what the config names',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none'
    )
    parser.add_argument(
        '--gpus',
        type=int,
        help='number of processes; default: that of the recipe',
    )
    parser.add_argument('--partition', help='of slurm')
    parser.add_argument(
        '--work-dir', help='default: work_dirs/<name of the config>'
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='print the commands alone'
    )
    parser.add_argument(
        '--download',
        action='store_true',
        help='fetch public weights that are not there',
    )
    parser.add_argument('--amp', action='store_true')
    parser.add_argument('--trust-checkpoint', action='store_true')
    parser.add_argument('--cfg-options', nargs='+', default=[])
    args = parser.parse_args()
    if args.gpus is not None and args.gpus < 1:
        parser.error('--gpus is 1 or more')
    if args.launcher == 'slurm' and not args.partition:
        parser.error('--launcher slurm needs --partition NAME')
    if args.launcher == 'none' and (args.gpus or 1) > 1:
        parser.error('--gpus above 1 needs --launcher pytorch or slurm')
    return args


def find_config(target: str) -> str:
    """Path of the config that a path, a name or a table row stands for.

    Raises:
        UserValueError: If there is none, or a row has several.
    """
    if target.endswith('.py'):
        running.read_config(target)
        return target
    models = model_index()
    if target in models:
        return readable_path(models[target]['Config'])
    from mmdense.results.zoo import configs_of_row

    try:
        paths = configs_of_row(target)
    except UserValueError as error:
        near = difflib.get_close_matches(target, models, n=3)
        hint = f' (nearest: {", ".join(near)})' if near else ''
        raise UserValueError(
            f'{target!r} is no config file and no config of the zoo{hint}. '
            f'As a table row: {error}'
        ) from None
    if not paths:
        raise UserValueError(
            f'{target!r} is a published row without a config: '
            'tools/benchmarks/table.py --missing lists these.'
        )
    if len(paths) > 1:
        lines = '\n  '.join(sorted(paths))
        raise UserValueError(
            f'{target!r} is reproduced by {len(paths)} configs; name one of '
            f'them:\n  {lines}'
        )
    return readable_path(paths[0])


def merge_options(cfg: Config, words: List[str]) -> None:
    """Merge ``key=value`` words as the launchers do.

    Raises:
        UserValueError: If they are no such words, or do not fit the config.
    """
    for word in words:
        if not word.partition('=')[0] or '=' not in word:
            raise UserValueError(
                f'--cfg-options takes key=value, not {word!r}.'
            )
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    # mmengine raises whatever it meets
    try:
        options = parser.parse_args(['--cfg-options', *words]).cfg_options
        cfg.merge_from_dict(options)
    except Exception as error:
        raise UserValueError(
            f'--cfg-options {shlex.join(words)} cannot be merged into '
            f'{cfg.filename}: {error}'
        ) from error


def check_config(cfg: Config) -> None:
    """Refuse what is no config of a fine-tuning.

    Raises:
        UserValueError: Names the key.
    """
    for key in ('model', 'train_dataloader', 'test_dataloader'):
        if not cfg.get(key):
            raise UserValueError(
                f'{cfg.filename} has no {key}: it is no fine-tuning config.'
            )
    places = ('benchmark', 'benchmark.pretraining', 'model.backbone')
    parts = ('train_cfg', 'optim_wrapper', 'auto_scale_lr', 'default_hooks')
    loaders = ('train_dataloader', 'test_dataloader')
    for key in ('model', *loaders, *places, *parts):
        value: Any = cfg
        for name in key.split('.'):
            value = value.get(name) or {}
            if not isinstance(value, dict):
                raise UserValueError(
                    f'{key}={value!r} in {cfg.filename} or --cfg-options: '
                    'it is to be a dict.'
                )


def processes(cfg: Config, args: argparse.Namespace) -> int:
    """Number of processes; says so if the batch is not the recipe's."""
    batch = cfg.train_dataloader.get('batch_size', 1)
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    wanted = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    gpus = args.gpus or 1
    if args.gpus is None and args.launcher != 'none' and wanted:
        gpus = max(1, wanted // (batch * steps))
    same = not wanted or gpus * batch * steps == wanted
    if not same and not trains_nothing(cfg):
        print(
            f'note: {gpus} process(es) of {batch * steps} images make a batch '
            f'of {gpus * batch * steps}, the recipe has {wanted}. Keep it by '
            '--cfg-options train_dataloader.batch_size=N or '
            'optim_wrapper.accumulative_counts=N'
        )
    return gpus


def print_plan(job: TransferJob) -> None:
    """Print the command of each stage, and whether it has been run."""
    text, path = job.run_config_text(), str(job.run_config)
    if text:
        print(f'mkdir -p {shlex.quote(osp.dirname(path))}')
        print(f"cat > {shlex.quote(path)} <<'END'\n{text}END")
    stages = [job.export_stage()] if job.source else []
    checkpoint = job.tested_checkpoint() or f'{job.train_dir}/LAST.pth'
    stages += [] if job.only_tests else [job.train_stage()]
    stages.append(job.test_stage(checkpoint))
    for stage in stages:
        print(f'# {stage.name}: {"done" if stage.done else "to run"}')
        extra = [f'{key}={value}' for key, value in stage.env.items()]
        print(shlex.join([*extra, *stage.command]))


@contextmanager
def lock(folder: Path) -> Iterator[int]:
    """Keep a second call out of a work dir until this one ends.

    Yields:
        int: Descriptor of the lock. Commands that keep it open hold the
        lock, should this process be killed before them.

    Raises:
        UserError: If there is one already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'Another call works in {folder}, or a command that one has '
                f'left running (fuser {shlex.quote(file.name)} shows it). '
                'Wait for it, or choose another --work-dir.'
            ) from None
        except OSError as error:  # not every network drive has locks
            print(f'note: {folder} cannot be locked: {error}')
        yield file.fileno()


def run(job: TransferJob, held: int) -> None:
    """Run what has not been run, and show the result row."""
    settings: Dict[str, Any] = dict(every=30, keep_old=True, held=[held])
    if job.source:
        run_stages([job.export_stage()], **settings)
        job.share_export()
    job.write_config()
    if not job.only_tests:
        run_stages([job.train_stage()], **settings)
    checkpoint = job.tested_checkpoint()
    if checkpoint is None:
        raise UserError(
            f'{job.train_dir} holds no whole checkpoint to test. Remove '
            'done.json there to train again.'
        )
    test = job.test_stage(checkpoint)
    run_stages([test], **settings)
    rows = list(test.folder.glob('results/*.json'))
    if not rows:
        raise UserError(f'The test wrote no row: see {test.log}.')
    newest = max(rows, key=osp.getmtime)
    print(f'{newest}:\n{newest.read_text().rstrip()}')


@running.exit_on_user_error
def main() -> None:
    args = parse_args()
    config = find_config(args.target)
    running.trust_checkpoints(args.trust_checkpoint)
    cfg = running.read_config(config)
    if args.cfg_options:
        merge_options(cfg, args.cfg_options)
    check_config(cfg)
    stem = osp.splitext(osp.basename(config))[0]
    work = Path(args.work_dir or osp.join('work_dirs', stem)).absolute()
    check_folder(work, '--work-dir')
    kind = WholeModelJob if starts_whole(cfg) else TransferJob
    job = kind(
        config,
        cfg,
        work,
        TOOLS,
        args.cfg_options,
        args.launcher,
        processes(cfg, args),
        args.partition or '',
        args.amp,
        args.trust_checkpoint,
    )
    missing = None
    if args.weights is not None:
        job.use(args.weights)
    else:
        try:
            job.find_weights(args.download and not args.dry_run)
        except MissingWeightsError as error:
            if not args.dry_run:
                raise
            missing = error
    for note in job.notes:
        print(f'note: {note}')
    if args.dry_run:
        print_plan(job)
        if missing:
            raise missing
        return
    try:
        with lock(job.work) as held:
            run(job, held)
    except KeyboardInterrupt:
        print('interrupted: the same command continues', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    main()
