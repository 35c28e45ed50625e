"""Processes that run training steps and measure them."""

import ctypes
import gc
import multiprocessing
import os
import time
import traceback
import warnings
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from step_variants import BUILDERS, TITLES, fingerprints, make_crops
from torch import nn
from torch.profiler import ProfilerActivity, profile


def resident(key):
    """``VmRSS`` or ``VmHWM`` of this process in bytes; Linux only."""
    with open('/proc/self/status') as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f'/proc/self/status has no {key}.')


class Meter:
    """Time and peak memory of steps."""

    def __init__(self, setup):
        self.cuda = torch.device(setup.device).type == 'cuda'
        gc.collect()
        if self.cuda:
            self.base = torch.cuda.memory_allocated()
        else:
            ctypes.CDLL(None).malloc_trim(0)
            self.base = resident('VmRSS')

    def forget(self):
        """Start to look for the peak anew."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path('/proc/self/clear_refs').write_text('5')

    def sync(self):  # noqa: D102
        if self.cuda:
            torch.cuda.synchronize()

    def peak(self):
        """Largest memory beyond what was there before the first step."""
        if self.cuda:
            return torch.cuda.max_memory_allocated() - self.base
        return resident('VmHWM') - self.base


@contextmanager
def quiet():
    """Hide what the profiler's libraries write to standard error."""
    kept = os.dup(2)
    with open(os.devnull, 'w') as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def live_peak(step):
    """Largest sum of tensors that a step on a CPU has alive, in bytes.

    What was there before does not count. Unlike the memory of the process
    it does not depend on what the allocator keeps for later.
    """
    with (
        quiet(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p,
    ):
        step()
    events = [
        (e.start_ns() if hasattr(e, 'start_ns') else e.start_us(), e.nbytes())
        for e in p.profiler.kineto_results.events()
        if e.name() == '[memory]'
    ]
    events.sort(key=lambda event: event[0])
    return max(accumulate((size for _, size in events), initial=0))


class Stepper:
    """One kind of training step with its optimiser."""

    def __init__(self, name, setup):
        device = torch.device(setup.device)
        self.variant = BUILDERS[name](setup)
        self.variant.model.to(device)
        self.crops = [crop.to(device) for crop in make_crops(setup)]
        self.cast = nullcontext
        if setup.dtype != 'float32':
            dtype = getattr(torch, setup.dtype)
            self.cast = partial(torch.autocast, device.type, dtype)
        self.params = [p for _, p in self.variant.student()]
        self.loss = self.variant.loss
        if setup.compile:
            self.loss = torch.compile(self.loss)
        # what optimisers import does not belong to a step
        probe = nn.Linear(1, 1).to(device)
        probe(probe.weight).sum().backward()
        torch.optim.AdamW(probe.parameters()).step()
        self.optimizer = torch.optim.AdamW(self.params, lr=1e-4)

    def step(self, look=None):
        """One step; ``look`` is called between gradients and optimiser."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.cast():
            loss = self.loss(self.crops)
        loss.backward()
        seen = look() if look else None
        self.optimizer.step()
        self.variant.after()
        return loss.item(), seen


def serve(conn, name, setup):
    """Process of one variant: builds it, then steps whenever it is told."""
    warnings.simplefilter('ignore')
    MMLogger.get_instance('mmengine').setLevel('ERROR')
    try:
        torch.set_num_threads(setup.threads)
        stepper = Stepper(name, setup)
        meter = Meter(setup)
        loss, prints = stepper.step(lambda: fingerprints(stepper.variant))
        for _ in range(2 if meter.cuda or setup.compile else 0):
            stepper.step()
        # the peak so far may be that of building and compiling
        meter.forget()
        conn.send(dict(loss=loss, prints=prints))
        while True:
            steps = conn.recv()
            if steps is None:
                return
            if steps == 0:
                conn.send(dict(tensors=live_peak(stepper.step)))
                continue
            meter.sync()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(steps):
                stepper.step()
            meter.sync()
            conn.send(
                dict(
                    wall=(time.perf_counter() - wall) / steps,
                    cpu=(time.process_time() - cpu) / steps,
                    peak=meter.peak(),
                )
            )
    except Exception:
        conn.send(dict(error=traceback.format_exc()))


class Worker:
    """Handle of the process of one variant."""

    def __init__(self, name, setup):
        context = multiprocessing.get_context('spawn')
        self.name = name
        self.conn, other = context.Pipe()
        self.process = context.Process(
            target=serve, args=(other, name, setup), daemon=True
        )
        self.process.start()
        other.close()

    def answer(self):
        """What the process sends next."""
        try:
            found = self.conn.recv()
        except EOFError:
            self.process.join()
            raise SystemExit(
                f'error: the process of {TITLES[self.name]} was ended '
                f'(exit code {self.process.exitcode}). -9 is mostly the '
                'system, out of memory: use a smaller --batch.'
            ) from None
        if 'error' in found:
            raise SystemExit(
                f'error in the process of {TITLES[self.name]}:\n'
                f'{found["error"]}'
            )
        return found

    def ask(self, steps):
        """Steps, and what they took."""
        # a process that was ended shows when its answer is read
        with suppress(BrokenPipeError):
            self.conn.send(steps)
        return self.answer()

    def close(self):  # noqa: D102
        with suppress(BrokenPipeError):
            self.conn.send(None)
        self.process.join()


def measure(names, setup, rounds, steps):
    """All variants in turns, ``rounds`` times."""
    workers = []
    try:
        results = {}
        for name in names:
            workers.append(Worker(name, setup))
            # one after the other: they would disturb each other
            results[name] = dict(first=workers[-1].answer(), rounds=[])
        for _ in range(rounds):
            for worker in workers:
                results[worker.name]['rounds'].append(worker.ask(steps))
        if torch.device(setup.device).type == 'cpu':
            for worker in workers:
                results[worker.name].update(worker.ask(0))
    finally:
        for worker in workers:
            worker.close()
    return results
