"""One side of dpt_forward.py: builds a DPT model and runs it on command.

Reads a command a line from the standard input and answers each with a line of
JSON. The side of the peer needs torch and transformers alone.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import sys
import time
from pathlib import Path

import torch


def resident(key):
    """``VmRSS`` or ``VmHWM`` of this process in bytes; Linux only."""
    with open('/proc/self/status') as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f'/proc/self/status has no {key}.')


def _ours(settings):
    from mmengine.registry import DefaultScope

    from mmdense.registry import MODELS

    DefaultScope.get_instance('benchmark', scope_name='mmdense')
    model = MODELS.build(settings['model'])
    state = torch.load(settings['weights'], weights_only=True)
    model.load_state_dict(state)
    return model, lambda images: model(images)[:, 0]


def _peer(settings):
    from transformers import DPTConfig, DPTForDepthEstimation

    model = DPTForDepthEstimation(DPTConfig(**settings['hf_config']))
    state = torch.load(settings['hf_weights'], weights_only=True)
    model.load_state_dict(state)
    return model, lambda images: model(images).predicted_depth


class Side:
    """A model, its input, and what is measured of its forward pass.

    Args:
        kind (str): 'ours' or 'peer'.
        settings (dict): As dpt_forward.py writes them.
    """

    def __init__(self, kind, settings):
        torch.set_num_threads(settings['threads'])
        self.settings = settings
        self.device = torch.device(settings['device'])
        self.cuda = self.device.type == 'cuda'
        model, self.forward = {'ours': _ours, 'peer': _peer}[kind](settings)
        # what starts as a training model keeps no gradients here
        model.eval().requires_grad_(False).to(self.device)
        self.model = model
        images = torch.load(settings['images'], weights_only=True)
        self.images = images.to(self.device)
        gc.collect()
        if not self.cuda:
            ctypes.CDLL(None).malloc_trim(0)

    def _sync(self):
        if self.cuda:
            torch.cuda.synchronize()

    def run(self):
        """One forward pass: seconds, and peak memory beyond the weights."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        else:
            ctypes.CDLL(None).malloc_trim(0)
            before = resident('VmRSS')
            Path('/proc/self/clear_refs').write_text('5')
        self._sync()
        start, used = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            out = self.forward(self.images)
        self._sync()
        wall, cpu = time.perf_counter() - start, time.process_time() - used
        peak = (
            torch.cuda.max_memory_allocated()
            if self.cuda
            else resident('VmHWM')
        )
        self.out = out
        return {'wall': wall, 'cpu': cpu, 'peak': peak - before, 'total': peak}

    def save(self):
        """Write the last output; say what the model is."""
        path = self.settings['out'] + f'_{id(self)}.pt'
        torch.save(self.out.float().cpu(), path)
        count = sum(p.numel() for p in self.model.parameters())
        return {
            'out': path,
            'parameters': count,
            'torch': torch.__version__,
            'threads': torch.get_num_threads(),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kind', choices=['ours', 'peer'])
    parser.add_argument('settings', help='file of dpt_forward.py')
    args = parser.parse_args()
    answer = sys.stdout
    settings = json.loads(Path(args.settings).read_text())
    # the toolboxes log to the standard output
    with contextlib.redirect_stdout(sys.stderr):
        side = Side(args.kind, settings)
        print(json.dumps({'ready': True}), file=answer, flush=True)
        for line in sys.stdin:
            result = {'run': side.run, 'save': side.save}[line.strip()]()
            print(json.dumps(result), file=answer, flush=True)


if __name__ == '__main__':
    main()
