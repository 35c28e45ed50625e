"""Commands that chain: finished ones are kept, interrupted ones go on."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..results.rows import file_hash
from ..utils.errors import UserError, UserValueError

_EPOCH = re.compile(r'Epoch\(train\)\s+\[\s*(\d+)\]\[\s*(\d+)/(\d+)\]')
_ITERATION = re.compile(r'Iter\(train\)\s+\[\s*(\d+)/(\d+)\]')
_TAIL = 3000

Running = List[Tuple['Stage', subprocess.Popen, float]]


class StageError(UserError, RuntimeError):
    """A stage that ended with an error; the end of its log was printed."""


def code_files(root: Path) -> List[Path]:
    """Sources that every result of a checkout depends on.

    Args:
        root (Path): Folder with ``mmdense`` and ``configs``.

    Returns:
        List[Path]: The package and the shared configs, sorted.
    """
    return sorted(
        path
        for folder in ('mmdense', 'configs/_base_')
        for path in (root / folder).rglob('*.py')
        if '.mim' not in path.parts
    )


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or, if interrupted, not at all."""
    part = path.with_name(f'{path.name}.{os.getpid()}.part')
    part.write_text(text)
    os.replace(part, path)


def check_folder(path: Path, option: str) -> None:
    """Refuse a folder that cannot be one, before any work.

    Args:
        path (Path): To be made; it may exist.
        option (str): Of the command line, for the message.

    Raises:
        UserValueError: If it, or what it lies in, is a file.
    """
    for folder in (path, *path.parents):
        if folder.is_dir():
            return
        if folder.exists():
            raise UserValueError(
                f'{option} {path}: {folder} is a file, not a folder.'
            )


@dataclass
class Stage:
    """One command and where its results go.

    Args:
        name (str): Shown to the user.
        folder (Path): For ``log.txt``, ``done.json`` and what the command
            writes.
        command (List[str]): Program and arguments.
        threads (int): OpenMP threads of the command. Defaults to 0: as the
            environment says.
        epochs (int): Length of a training that counts epochs, for the
            progress. Defaults to 0: unknown.
        inputs (List[Path]): Files whose content the result depends on.
        outputs (List[Path]): Files without which the stage is not done. The
            last part may be a pattern as in ``*.json``: one of them at least.
        identity (List[str], optional): What else it depends on. Defaults to
            None, the command.
        env (Dict[str, str]): Environment variables of the command.
    """

    name: str
    folder: Path
    command: List[str]
    threads: int = 0
    epochs: int = 0
    inputs: List[Path] = field(default_factory=list)
    outputs: List[Path] = field(default_factory=list)
    identity: Optional[List[str]] = None
    env: Dict[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """Hash of what the result depends on.

        Taken once: files may be edited while a stage runs.
        """
        identity = self.command if self.identity is None else self.identity
        digest = hashlib.sha256(json.dumps(identity).encode())
        for path in self.inputs:
            digest.update(str(file_hash(path)).encode())
        return digest.hexdigest()

    @property
    def log(self) -> Path:
        """What the command has printed, restarts included."""
        return self.folder / 'log.txt'

    @property
    def done(self) -> bool:
        """Whether this very stage has finished before."""
        try:
            marker = json.loads((self.folder / 'done.json').read_text())
        except (OSError, ValueError):
            return False
        return marker.get('key') == self.key and all(
            any(path.parent.glob(path.name)) for path in self.outputs
        )

    @property
    def is_of_another(self) -> bool:
        """Whether the folder holds what a different command has left."""
        note = self.folder / 'started.txt'
        return note.is_file() and note.read_text() != self.key

    def finish(self, seconds: float) -> None:
        """Note that the stage has finished; seconds of restarts add up."""
        seconds += self._seconds_before()
        record = {'key': self.key, 'seconds': round(seconds, 1)}
        write_text(self.folder / 'done.json', json.dumps(record))

    def interrupt(self, seconds: float) -> None:
        """Note for how long the stage ran before it was stopped."""
        if not self.done and self.folder.is_dir():
            seconds += self._seconds_before()
            write_text(self.folder / 'seconds.txt', str(seconds))

    def _seconds_before(self) -> float:
        path = self.folder / 'seconds.txt'
        return float(path.read_text()) if path.is_file() else 0.0

    def prepare(self, keep_old: bool = False) -> None:
        """Make the folder; leave nothing there that is of another key.

        Args:
            keep_old (bool): Move what a different command has left behind
                aside instead of deleting it. Defaults to False.
        """
        if self.is_of_another:
            if keep_old:
                old = _free_name(self.folder)
                self.folder.rename(old)
                print(
                    f'{self.name}: its inputs have changed; the earlier '
                    f'results are in {old}'
                )
            else:
                shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / 'started.txt', self.key)

    def progress(self) -> str:
        """Last logged position, as ``'epoch 3/40 17 %'``."""
        with open(self.log, 'rb') as file:
            file.seek(max(0, os.path.getsize(self.log) - 4000))
            tail = file.read().decode(errors='replace')
        found = _ITERATION.findall(tail)
        if found:
            index, count = map(int, found[-1])
            return f'iteration {index}/{count} {100 * index / count:.0f} %'
        found = _EPOCH.findall(tail)
        if not found or not self.epochs:
            return 'starting' if not found else f'epoch {found[-1][0]}'
        epoch, index, count = map(int, found[-1])
        share = (epoch - 1 + index / count) / self.epochs
        return f'epoch {epoch}/{self.epochs} {100 * share:.0f} %'


def _free_name(folder: Path) -> Path:
    number = 1
    while True:
        name = folder.with_name(f'{folder.name}.old-{number}')
        if not name.exists():
            return name
        number += 1


class _SigtermExits:
    """Turn SIGTERM, as schedulers send it, into SystemExit for a while."""

    def __enter__(self) -> None:
        self._before: Any = None
        # signals can be set in the main thread alone
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._exit)

    def __exit__(self, *args: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    @staticmethod
    def _exit(number: int, frame: Any) -> None:
        sys.exit(128 + number)


def run_stages(
    stages: List[Stage],
    cwd: Optional[Path] = None,
    every: float = 10,
    keep_old: bool = False,
    held: Sequence[int] = (),
) -> None:
    """Run stages beside each other and show where they are.

    Interrupted, it stops the commands; called again, it starts those that
    have not finished once more, in the folders that they left.

    Args:
        stages (List[Stage]): Those that are done are passed over.
        cwd (Path, optional): Working directory of the commands. Defaults to
            None, the present one.
        every (float): Seconds between two lines of progress. Defaults to 10.
        keep_old (bool): See :meth:`Stage.prepare`. Defaults to False.
        held (Sequence[int]): Descriptors that the commands keep open, of
            locks that are to last as long as they do. Defaults to ``()``.

    Raises:
        StageError: If one fails; the end of its log is printed.
    """
    running: Running = []
    with _SigtermExits():
        try:
            for stage in stages:
                if stage.done:
                    print(f'{stage.name}: already done', flush=True)
                    continue
                stage.prepare(keep_old)
                running.append((stage, _start(stage, cwd, held), time.time()))
                print(f'{stage.name}: started, log in {stage.log}', flush=True)
            for stage, seconds in _wait(running, every):
                stage.finish(seconds)
                print(f'{stage.name}: done in {seconds:.0f} s', flush=True)
        except BaseException:
            for stage, process, start in running:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
                stage.interrupt(time.time() - start)
            raise


def _start(
    stage: Stage, cwd: Optional[Path], held: Sequence[int]
) -> subprocess.Popen:
    env = {
        # threads that spin while they wait hold the loaders up
        'OMP_WAIT_POLICY': 'PASSIVE',
        **os.environ,
        **stage.env,
    }
    if stage.threads:
        env['OMP_NUM_THREADS'] = str(stage.threads)
    with open(stage.log, 'ab') as log:
        return subprocess.Popen(
            stage.command,
            cwd=cwd,
            env=env,
            stdout=log,
            stderr=log,
            pass_fds=tuple(held),
        )


def _wait(running: Running, every: float) -> Iterator[Tuple[Stage, float]]:
    """Yield stages with their seconds as they finish."""
    shown = time.time()
    active = list(running)
    while active:
        time.sleep(0.2)
        for item in list(active):
            stage, process, start = item
            if process.poll() is None:
                continue
            active.remove(item)
            if process.returncode:
                log = stage.log.read_text(errors='replace')
                print(log[-_TAIL:], file=sys.stderr)
                raise StageError(
                    f'{stage.name} failed (exit code {process.returncode}), '
                    f'see {stage.log}. The same command continues once the '
                    'cause is mended.'
                )
            yield stage, time.time() - start
        if active and time.time() - shown > every:
            shown = time.time()
            text = ', '.join(f'{s.name} {s.progress()}' for s, _, _ in active)
            print(f'  ... {text}', flush=True)
