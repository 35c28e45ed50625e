"""Run a function on several gloo processes of this machine."""

import importlib.util
import inspect
import os
import socket
import sys
import time
from typing import Any, Callable, List

import torch.distributed as dist
import torch.multiprocessing as mp


def free_port() -> int:
    """A TCP port of the loopback interface that is free right now."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def _load(path: str, name: str) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location('_mmdense_worker', path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def _worker(
    rank: int,
    path: str,
    name: str,
    world_size: int,
    port: int,
    queue: Any,
    args: tuple,
) -> None:
    import torch

    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=rank,
        world_size=world_size,
    )
    queue.put((rank, _load(path, name)(rank, world_size, *args)))
    dist.barrier()
    # torch 2.1 hangs now and then when it takes gloo down
    os._exit(0)


def run_distributed(
    function: Callable[..., Any],
    world_size: int,
    *args: Any,
    timeout: float = 600,
) -> List[Any]:
    """Call ``function(rank, world_size, *args)`` on gloo processes.

    Args:
        function (Callable): Defined at the top level of a file (a test file
            too: it is loaded by path, not by module name). What it returns
            must be picklable; convert tensors to numpy.
        world_size (int): Number of processes.
        *args: Further picklable arguments.
        timeout (float): Seconds to wait for all processes. Defaults to 600.

    Returns:
        list: What each rank returned, in rank order.

    Raises:
        TimeoutError: If the processes take longer; they are ended.
        Exception: If any process fails, with its traceback.
    """
    context = mp.get_context('spawn')
    queue = context.SimpleQueue()
    path = inspect.getsourcefile(function)
    processes = mp.start_processes(
        _worker,
        args=(
            path,
            function.__qualname__,
            world_size,
            free_port(),
            queue,
            args,
        ),
        nprocs=world_size,
        join=False,
        start_method='spawn',
    )
    results = {}
    end = time.monotonic() + timeout
    while not processes.join(timeout=0.1):
        if time.monotonic() > end:
            for process in processes.processes:
                process.kill()
            raise TimeoutError(
                f'{function.__qualname__} ran longer than {timeout} s on '
                f'{world_size} processes.'
            )
        while not queue.empty():
            rank, value = queue.get()
            results[rank] = value
    while not queue.empty():
        rank, value = queue.get()
        results[rank] = value
    return [results[rank] for rank in range(world_size)]
