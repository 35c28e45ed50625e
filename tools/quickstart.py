"""The main job on the demo data: pre-train, export, fine-tune, report.

Each stage runs the command a user would run; ``log.txt`` in its folder has
the output. A finished stage is not run again, an interrupted one resumes.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Dict, List

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
LOGGED = re.compile(r'Epoch\(train\)\s+\[\s*(\d+)\]\[\s*(\d+)/(\d+)\]')


def code_files() -> List[Path]:
    """What every result depends on: the package and the shared configs."""
    return sorted(
        path
        for folder in ('mmdense', 'configs/_base_')
        for path in (ROOT / folder).rglob('*.py')
        if '.mim' not in path.parts
    )


@dataclass
class Stage:
    """One command and where its results go."""

    name: str
    folder: Path
    command: List[str]
    threads: int = 1
    epochs: int = 0
    inputs: List[Path] = field(default_factory=list)

    @cached_property
    def key(self) -> str:
        """Hash of what the result depends on: command, inputs and code.

        Taken once: code may be edited while a stage runs.
        """
        digest = hashlib.sha256(json.dumps(self.command).encode())
        for path in [*self.inputs, *code_files()]:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    @property
    def done(self) -> bool:
        """Whether this very stage has finished before."""
        marker = self.folder / 'done.json'
        return (
            marker.is_file()
            and json.loads(marker.read_text())['key'] == self.key
        )

    def finish(self, seconds: float) -> None:
        """Note that the stage has finished; seconds of restarts add up."""
        before = self.folder / 'seconds.txt'
        if before.is_file():
            seconds += float(before.read_text())
        record = {'key': self.key, 'seconds': round(seconds, 1)}
        (self.folder / 'done.json').write_text(json.dumps(record))

    def progress(self) -> str:
        """Last logged position, as ``'epoch 3/40 17 %'``."""
        log = self.folder / 'log.txt'
        tail = log.read_bytes()[-4000:].decode(errors='replace')
        found = LOGGED.findall(tail)
        if not found or not self.epochs:
            return 'starting'
        epoch, index, count = map(int, found[-1])
        share = (epoch - 1 + index / count) / self.epochs
        return f'epoch {epoch}/{self.epochs} {100 * share:.0f} %'


def clear_if_changed(stage: Stage) -> None:
    """Drop a work dir that a different command has left behind."""
    note = stage.folder / 'started.txt'
    if note.is_file() and note.read_text() != stage.key:
        shutil.rmtree(stage.folder)
    stage.folder.mkdir(parents=True, exist_ok=True)
    note.write_text(stage.key)


def run_stages(stages: List[Stage]) -> None:
    """Run stages beside each other and show where they are.

    Raises:
        SystemExit: If one fails, with the end of its log.
    """
    running = []
    for stage in stages:
        if stage.done:
            print(f'{stage.name}: already done')
            continue
        clear_if_changed(stage)
        env = {
            # threads that spin while they wait hold the loaders up
            'OMP_WAIT_POLICY': 'PASSIVE',
            **os.environ,
            'OMP_NUM_THREADS': str(stage.threads),
        }
        with open(stage.folder / 'log.txt', 'ab') as log:
            process = subprocess.Popen(
                stage.command, cwd=ROOT, env=env, stdout=log, stderr=log
            )
        running.append((stage, process, time.time()))
        print(f'{stage.name}: started, log in {stage.folder}/log.txt')
    try:
        _wait(running)
    except BaseException:
        for stage, process, start in running:
            if process.poll() is None:
                process.terminate()
                process.wait()
            _add_seconds(stage, time.time() - start)
        raise


def _add_seconds(stage: Stage, seconds: float) -> None:
    if not stage.done and stage.folder.is_dir():
        path = stage.folder / 'seconds.txt'
        before = float(path.read_text()) if path.is_file() else 0.0
        path.write_text(str(before + seconds))


def _wait(running: list) -> None:
    shown = time.time()
    active = list(running)
    while active:
        time.sleep(0.5)
        for item in list(active):
            stage, process, start = item
            if process.poll() is None:
                continue
            active.remove(item)
            seconds = time.time() - start
            if process.returncode:
                log = (stage.folder / 'log.txt').read_text(errors='replace')
                print(log[-3000:], file=sys.stderr)
                sys.exit(f'{stage.name} failed, see {stage.folder}/log.txt')
            stage.finish(seconds)
            print(f'{stage.name}: done in {seconds:.0f} s', flush=True)
        if active and time.time() - shown > 10:
            shown = time.time()
            text = ', '.join(f'{s.name} {s.progress()}' for s, _, _ in active)
            print(f'  ... {text}', flush=True)


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
    return Stage(name, folder, command, threads, epochs, [config, *inputs])


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
    run_stages([pretrain])
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
        inputs=[last],
    )
    run_stages([export])
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
        run_stages(stages)
    print('drawing the report')
    sys.path.insert(0, str(ROOT / 'tools'))
    from quickstart_report import write_report

    path = write_report(work, PRETRAIN, {'segmentation': SEG, 'depth': DEPTH})
    print(f'report: {path}')


if __name__ == '__main__':
    main()
