"""Train a model from a config: pre-training, segmentation, detection, depth.

The flags are those of mmpretrain's launcher.
"""

import argparse
import os

from mmengine.config import DictAction

from mmdense.apis import running


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', default='', help='logs and checkpoints')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from this checkpoint; without a value, from the '
        'latest one in the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed-precision training'
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='train without validation'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the total batch size',
    )
    parser.add_argument('--no-pin-memory', action='store_true')
    parser.add_argument('--no-persistent-workers', action='store_true')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that hold more than tensors',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override config entries: key=value, nested keys with dots, '
        'lists as key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # torch.distributed.launch passes either spelling
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@running.exit_on_user_error
def main() -> None:
    args = parse_args()
    cfg = running.read_config(args.config)
    running.trust_checkpoints(args.trust_checkpoint)
    cfg.launcher = args.launcher
    running.set_work_dir(cfg, args.config, args.work_dir)
    if args.no_validate:
        running.disable_validation(cfg)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.resume is not None:
        running.set_resume(cfg, args.resume)
    if args.amp:
        running.set_amp(cfg)
    if args.auto_scale_lr:
        if cfg.get('auto_scale_lr', None) is None:
            raise running.ConfigError(
                '--auto-scale-lr needs auto_scale_lr.base_batch_size in the '
                'config.'
            )
        cfg.auto_scale_lr.enable = True
    running.set_loader_defaults(
        cfg, not args.no_pin_memory, not args.no_persistent_workers
    )
    skip = ('test_dataloader', 'test_evaluator', 'test_cfg')
    runner = running.build_runner(cfg, skip)
    running.check_loader(runner)
    runner.train()


if __name__ == '__main__':
    main()
