"""The main job on the demo data: pre-train, export, fine-tune, report.

Each stage runs the command a user would run; ``log.txt`` in its folder has
the output. A finished stage is not run again, an interrupted one resumes.
"""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Dict, List

from mmdense.apis.running import exit_on_user_error
from mmdense.apis.stages import Stage, code_files, run_stages

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs' / 'local_global'
PRETRAIN = CONFIGS / 'local-global_vit-demo-p16_1xb32-coslr-70e_demo-96px.py'
SEG = (
    CONFIGS / 'benchmarks' / 'linear_vit-demo-p16_local-global-70e-pre_'
    '1xb8-25e_rooms-192x256.py'
)
DEPTH = (
    CONFIGS / 'benchmarks' / 'uper-depth_vit-demo-p16_local-global-70e-pre_'
    '1xb8-20e_rooms-160x160.py'
)


def train_stage(
    name: str,
    folder: Path,
    config: Path,
    epochs: int,
    options: Dict[str, object],
    threads: int,
    inputs: List[Path],
) -> Stage:
    """A run of ``tools/train.py`` that resumes by itself."""
    command = [
        *(sys.executable, '-W', 'ignore', str(ROOT / 'tools/train.py')),
        *(str(config), '--work-dir', str(folder), '--resume'),
        *('--cfg-options', f'train_cfg.max_epochs={epochs}'),
        *(f'{key}={value}' for key, value in options.items()),
    ]
    files = [config, *inputs, *code_files(ROOT)]
    return Stage(name, folder, command, threads, epochs, files)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', default='work_dirs/quickstart')
    parser.add_argument(
        '--smoke',
        action='store_true',
        help='one short epoch of everything: shows that it runs, no more',
    )
    return parser.parse_args()


def max_epochs(config: Path) -> int:
    """Epochs that a config trains for."""
    found = re.search(r'max_epochs=(\d+)', config.read_text())
    assert found is not None, f'{config} has no max_epochs'
    return int(found[1])


@exit_on_user_error
def main() -> None:
    args = parse_args()
    work = (ROOT / args.work_dir).resolve()
    work.mkdir(parents=True, exist_ok=True)
    cores = os.cpu_count() or 1
    smoke: Dict[str, object] = (
        {'train_dataloader.dataset.indices': 16} if args.smoke else {}
    )

    def epochs(config: Path) -> int:
        return 1 if args.smoke else max_epochs(config)

    pretrain = train_stage(
        'pre-training',
        work / 'pretrain',
        PRETRAIN,
        epochs(PRETRAIN),
        {},
        cores,
        [],
    )
    run_stages([pretrain], ROOT)
    last = work / 'pretrain' / f'epoch_{epochs(PRETRAIN)}.pth'
    backbone = work / 'export' / 'backbone.pth'
    export = Stage(
        'export',
        backbone.parent,
        [
            *(sys.executable, '-W', 'ignore'),
            str(ROOT / 'tools/model_converters/export_backbone.py'),
            *(str(last), str(backbone), '--layout', 'mmpretrain'),
        ],
        inputs=[last, *code_files(ROOT)],
    )
    run_stages([export], ROOT)
    for task, config in (('segmentation', SEG), ('depth', DEPTH)):
        stages = []
        for origin in ('pretrained', 'random'):
            checkpoint = str(backbone) if origin == 'pretrained' else 'None'
            options = {
                'model.backbone.init_cfg.checkpoint': checkpoint,
                'train_cfg.val_interval': max(1, epochs(config) // 5),
                **smoke,
            }
            stages.append(
                train_stage(
                    f'{task} from {origin}',
                    work / f'{task}_{origin}',
                    config,
                    epochs(config),
                    options,
                    max(1, cores // 2),
                    [backbone] if origin == 'pretrained' else [],
                )
            )
        run_stages(stages, ROOT)
    print('drawing the report')
    sys.path.insert(0, str(ROOT / 'tools'))
    from quickstart_report import write_report

    path = write_report(work, PRETRAIN, {'segmentation': SEG, 'depth': DEPTH})
    print(f'report: {path}')


if __name__ == '__main__':
    main()
