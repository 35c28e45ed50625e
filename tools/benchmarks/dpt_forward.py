"""Time and memory of DPT's forward pass against Hugging Face's.

Each side runs in a process of its own with the same random weights and the
same image; passes alternate, so that what else the machine does hits both.
The peer needs transformers, which does not go into one environment with the
toolboxes: give the Python of another one, with the same torch.

Memory is what a pass needs beyond the weights: the high-water mark of the
process (CPU) or of the allocator (GPU) minus what was there before.

Examples:
    python tools/benchmarks/dpt_forward.py --peer-python hf/bin/python
    python tools/benchmarks/dpt_forward.py --models hybrid --runs 20
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

MIB = 2**20
SIZES = {
    'base': dict(arch='base', width=768, levels=(96, 192, 384, 768)),
    'large': dict(arch='large', width=1024, levels=(256, 512, 1024, 1024)),
    'hybrid': dict(arch='base', width=768, levels=(256, 512, 768, 768)),
}
TAPS = {'base': (2, 5, 8, 11), 'large': (5, 11, 17, 23)}
TITLES = {'ours': 'mmdense', 'peer': 'transformers'}
TOLERANCE = 1e-4


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--models', nargs='+', choices=list(SIZES), default=list(SIZES))
    add('--peer-python', help='Python of an environment with transformers')
    add('--size', type=int, default=384, help='side (default: %(default)s)')
    add('--batch', type=int, default=1)
    add('--runs', type=int, default=10, help='measured passes of each side')
    add('--warmup', type=int, default=2)
    add('--threads', type=int, default=1)
    add('--device', default='cpu')
    add('--json', help='file for the numbers')
    args = parser.parse_args(argv)
    if args.size % 32 or min(args.runs, args.batch, args.threads) < 1:
        parser.error('--size takes multiples of 32, counts begin at 1')
    return args


def model_config(name, img_size=384):
    """Config of a DPT for depth.

    Args:
        name (str): 'base', 'large' or 'hybrid'.
        img_size (int): Side that the positions are stored for.

    Returns:
        dict: Of mmdense.DepthEstimator.
    """
    size = SIZES[name]
    backbone = dict(
        type='mmdense.VisionTransformer',
        arch=size['arch'],
        img_size=img_size,
        out_type='tokens',
        out_indices=TAPS[size['arch']],
        final_norm=False,
        interpolate_mode='bilinear',
    )
    levels, channels = ('tokens',) * 4, (size['width'],) * 4
    if name == 'hybrid':
        backbone = dict(
            type='mmdense.HybridVisionTransformer', img_size=img_size
        )
        levels = ('map', 'map', 'tokens', 'tokens')
        channels = (256, 512, 768, 768)
    return dict(
        type='mmdense.DepthEstimator',
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor'),
        backbone=backbone,
        decode_head=dict(
            type='mmdense.DPTDepthHead',
            in_channels=channels,
            levels=levels,
            reassemble_channels=size['levels'],
            loss_decode=dict(type='mmdense.SILogLoss'),
        ),
    )


def randomize(model, seed=0):
    """Weights that make every part matter.

    Args:
        model (nn.Module): Of :func:`model_config`.
        seed (int): Of the numbers.
    """
    torch.manual_seed(seed)
    for name, value in model.named_parameters():
        if value.ndim > 1 and '.patch_embed.backbone.' in name:
            # standardised: the sides add different small numbers to the
            # deviation, which must not show
            torch.nn.init.normal_(value, std=1.0)
        elif value.ndim > 1 and 'embed' not in name and 'token' not in name:
            torch.nn.init.normal_(value, std=value[0].numel() ** -0.5)
        elif value.ndim > 1:
            torch.nn.init.normal_(value, std=0.3)
        elif name.endswith('.weight'):
            torch.nn.init.normal_(value, mean=1.0, std=0.1)
        else:
            torch.nn.init.normal_(value, std=0.05)
    with torch.no_grad():
        # behind a ReLU, in front of one: depth stays above zero
        model.decode_head.conv_depth.weight.abs_()
        model.decode_head.conv_depth.bias.abs_()


def prepare(name, args, folder):
    """Write weights of both sides, images and settings.

    Args:
        name (str): Key of ``SIZES``.
        args (argparse.Namespace): Of the command line.
        folder (Path): Where to.

    Returns:
        Path: File of settings.
    """
    from mmdense.apis.convert_dpt import hf_config
    from mmdense.utils.checkpoint_keys.dpt import read_dpt, write_dpt

    config = model_config(name)
    settings = {
        'model': config,
        'weights': str(folder / 'ours.pt'),
        'hf_weights': str(folder / 'hf.pt'),
        'images': str(folder / 'images.pt'),
        'out': str(folder / 'out'),
        'device': args.device,
        'threads': args.threads,
    }
    model = build(config)
    randomize(model)
    torch.save(model.state_dict(), settings['weights'])
    dpt = read_dpt(model.state_dict())
    state, _ = write_dpt(dpt, 'hf')
    torch.save(
        {k: v.clone().contiguous() for k, v in state.items()},
        settings['hf_weights'],
    )
    settings['hf_config'] = hf_config(dpt.spec)
    images = torch.randn(args.batch, 3, args.size, args.size)
    torch.save(images, settings['images'])
    path = folder / 'settings.json'
    path.write_text(json.dumps(settings))
    return path


def build(config):
    """Model of a config, without its log.

    Args:
        config (dict): Of :func:`model_config`.

    Returns:
        nn.Module: The model.
    """
    from mmengine.registry import DefaultScope

    from mmdense.registry import MODELS

    DefaultScope.get_instance('benchmark', scope_name='mmdense')
    return MODELS.build(config)


class Process:
    """A worker that is waiting for commands.

    Args:
        python (str): Interpreter.
        kind (str): 'ours' or 'peer'.
        settings (Path): File of settings.
    """

    def __init__(self, python, kind, settings):
        self.kind = kind
        worker = Path(__file__).with_name('dpt_worker.py')
        # closed in close(), which the process needs it open for
        self.log = tempfile.TemporaryFile('w+')  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, str(worker), kind, str(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            text = self.log.read().strip().splitlines()
            sys.exit(
                f'error: the process of {TITLES[self.kind]} has ended: '
                + (text[-1][:300] if text else 'no message')
            )
        return json.loads(line)

    def ask(self, command):
        """Answer to 'run' or 'save'."""
        self.process.stdin.write(command + '\n')
        self.process.stdin.flush()
        return self._answer()

    def close(self):
        """End the worker."""
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def measure(name, args):
    """Numbers of one model.

    Args:
        name (str): Key of ``SIZES``.
        args (argparse.Namespace): Of the command line.

    Returns:
        dict: ``rows`` of each side, and ``difference`` of the outputs.
    """
    pythons = {'ours': sys.executable}
    if args.peer_python:
        pythons['peer'] = args.peer_python
    with tempfile.TemporaryDirectory() as folder:
        settings = prepare(name, args, Path(folder))
        sides = {k: Process(p, k, settings) for k, p in pythons.items()}
        runs = {kind: [] for kind in sides}
        for index in range(args.warmup + args.runs):
            for kind, side in sides.items():
                result = side.ask('run')
                if index >= args.warmup:
                    runs[kind].append(result)
        saved = {kind: side.ask('save') for kind, side in sides.items()}
        outs = {
            kind: torch.load(said['out'], weights_only=True)
            for kind, said in saved.items()
        }
        for side in sides.values():
            side.close()
    report = {'rows': {}}
    for kind, results in runs.items():
        report['rows'][kind] = {
            'parameters': saved[kind]['parameters'],
            'torch': saved[kind]['torch'],
            'threads': saved[kind]['threads'],
            'wall_min': min(r['wall'] for r in results),
            'wall_median': statistics.median(r['wall'] for r in results),
            'cpu_min': min(r['cpu'] for r in results),
            'cpu_median': statistics.median(r['cpu'] for r in results),
            'peak': statistics.median(r['peak'] for r in results),
            'total': max(r['total'] for r in results),
        }
    if 'peer' in outs:
        gap = (outs['ours'] - outs['peer']).abs().max()
        report['difference'] = float(gap / outs['peer'].abs().max())
        report['spread'] = float(outs['peer'].std() / outs['peer'].mean())
    return report


def show(name, report):
    """Print the numbers of one model.

    Args:
        name (str): Key of ``SIZES``.
        report (dict): Of :func:`measure`.
    """
    for kind, row in report['rows'].items():
        print(
            f'{name:<7} {TITLES[kind]:<13}'
            f'{row["parameters"] / 1e6:>8.1f} '
            f'{row["wall_min"] * 1e3:>9.1f} {row["wall_median"] * 1e3:>9.1f} '
            f'{row["cpu_min"] * 1e3:>9.1f} {row["cpu_median"] * 1e3:>9.1f} '
            f'{row["peak"] / MIB:>9.1f} {row["total"] / MIB:>9.1f}'
        )
    if 'difference' in report:
        verdict = 'equal' if report['difference'] <= TOLERANCE else 'DIFFERENT'
        print(
            f'{name:<7} largest difference of the outputs, relative to their '
            f'maximum: {report["difference"]:.1e} ({verdict}; std/mean of the '
            f'output {report["spread"]:.2f})'
        )


def main(argv=None):
    args = parse_args(argv)
    print(
        f'{args.batch} x {args.size}x{args.size}, fp32, {args.device}, '
        f'{args.threads} thread(s), {args.runs} alternating runs, '
        f'torch {torch.__version__}, {platform.processor() or "CPU"}'
    )
    print(
        f'{"model":<7} {"":<13}{"params M":>8} {"min ms":>9} {"median":>9} '
        f'{"CPU min":>9} {"CPU med.":>9} {"peak MiB":>9} {"process":>9}'
    )
    reports = {}
    for name in args.models:
        reports[name] = measure(name, args)
        show(name, reports[name])
    if args.json:
        Path(args.json).write_text(json.dumps(reports, indent=2) + '\n')
    bad = [
        name
        for name, report in reports.items()
        if report.get('difference', 0) > TOLERANCE
    ]
    if bad:
        sys.exit(f'error: outputs differ beyond {TOLERANCE}: {bad}')


if __name__ == '__main__':
    main()
