"""Run the command-line tools as a user does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Sequence

from .distributed import free_port

ROOT = Path(__file__).resolve().parents[2]


def run_tool(
    name: str,
    *args: object,
    processes: int = 0,
    cwd: object = ROOT,
    check: bool = True,
    timeout: float = 900,
) -> subprocess.CompletedProcess:
    """Run ``tools/<name>`` with this interpreter.

    Args:
        name (str): Path below ``tools``.
        *args: Command-line arguments. With ``processes``, the number of
            processes goes where the ``dist_*.sh`` script expects it.
        processes (int): Run through ``dist_<name>.sh`` on so many processes;
            0 runs the Python file itself. Defaults to 0.
        cwd (Path): Working directory. Defaults to the repository root.
        check (bool): Raise if the tool fails. Defaults to True.
        timeout (float): Seconds to wait. Defaults to 900.

    Returns:
        subprocess.CompletedProcess: With ``stdout`` holding both streams.

    Raises:
        RuntimeError: If the tool fails and ``check`` is set; with the end of
            its output.
    """
    words: Sequence[object]
    if processes:
        stem = Path(name).stem
        fixed = 1 if stem == 'train' else 2
        words = [
            'bash',
            ROOT / 'tools' / f'dist_{stem}.sh',
            *args[:fixed],
            processes,
            *args[fixed:],
        ]
    else:
        words = [sys.executable, ROOT / 'tools' / name, *args]
    env = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'PYTHON': sys.executable,
        'PORT': str(free_port()),
    }
    done = subprocess.run(
        [str(word) for word in words],
        cwd=str(cwd),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if check and done.returncode:
        raise RuntimeError(
            f'{" ".join(map(str, words))} ended with {done.returncode}:\n'
            f'{done.stdout[-6000:]}'
        )
    return done
