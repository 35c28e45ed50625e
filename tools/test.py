"""Test a checkpoint with the config that it was trained with."""

import argparse
import os

import mmengine
from mmengine.config import DictAction
from mmengine.evaluator import DumpResults

from mmdense.apis import running
from mmdense.apis.config_data import be_strict
from mmdense.apis.weights_check import WeightsCheckHook
from mmdense.utils.model_settings import forget_initial_weights


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', default='', help='folder for metrics')
    parser.add_argument('--out', help='file for the results')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what --out holds, predictions by default',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed-precision testing'
    )
    parser.add_argument('--show-dir', help='folder for drawn results')
    parser.add_argument('--show', action='store_true', help='open windows')
    parser.add_argument('--interval', type=int, default=1)
    parser.add_argument('--wait-time', type=float, default=2)
    parser.add_argument('--no-pin-memory', action='store_true')
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation'
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load checkpoints that hold more than tensors',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    if args.out_item is not None and args.out is None:
        parser.error('--out-item needs --out FILE')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@running.exit_on_user_error
def main() -> None:
    args = parse_args()
    cfg = running.read_config(args.config)
    running.trust_checkpoints(args.trust_checkpoint)
    cfg.launcher = args.launcher
    running.set_work_dir(cfg, args.config, args.work_dir)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if cfg.get('test_dataloader') is None:
        raise running.ConfigError(
            f'{args.config} has no test_dataloader: there is nothing to test.'
        )
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir is not None:
        running.set_visualization(
            cfg, args.show_dir, args.show, args.wait_time, args.interval
        )
    if args.tta:
        running.use_tta(cfg)
    running.set_loader_defaults(cfg, pin_memory=not args.no_pin_memory)
    forget_initial_weights(cfg.model)
    running.add_testing_hooks(cfg)
    be_strict(cfg)
    skip = (
        *('train_dataloader', 'train_cfg', 'optim_wrapper', 'custom_hooks'),
        *('val_dataloader', 'val_evaluator', 'val_cfg'),
    )
    runner = running.build_runner(cfg, skip)
    runner.register_hook(WeightsCheckHook())
    if args.out and args.out_item != 'metrics':
        dump = DumpResults(out_file_path=args.out)
        runner.test_evaluator.metrics.append(dump)
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    main()
