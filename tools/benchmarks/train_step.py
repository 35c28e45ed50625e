"""Time, memory and arithmetic of a DINO and SelfPatch training step.

A step is the forward pass of the teacher and of the student, loss, backward
pass, optimiser, and the update of teacher and centres. Four of them run in
turns, each in a process of its own, with the same weights, crops and vision
transformer: DINO and SelfPatch of mmdense, DINO of the lightly package (see
``requirements/peers.txt``) and a SelfPatch written plainly from its formulas
(``plain_selfpatch.py``).

Wall time depends on what else the machine does; on a CPU the goals are
judged by CPU seconds.

Examples:
    PYTHONPATH=PEERS python tools/benchmarks/train_step.py --batch 16
    python tools/benchmarks/train_step.py --arch small --device cuda \
        --dtype bfloat16 --compile both --batch 128
"""

import argparse
import json
import os
import platform
import statistics
from importlib.util import find_spec
from pathlib import Path

import torch
from mac_count import ARCHS, PARTS, Sizes, mac_rows
from step_processes import measure
from step_variants import TITLES, VARIANTS, Setup, disagreement

# dense bf16 multiply-adds and additions of the data sheets, TFLOP/s
PEAKS = {
    'H200': 989.0,
    'H100 PCIe': 756.0,
    'H100': 989.0,
    'A100': 312.0,
    'A10': 125.0,
    'L40S': 362.0,
    'L4': 121.0,
    'RTX 4090': 165.0,
}
MIB = 2**20


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--arch', choices=sorted(ARCHS), default='tiny')
    add('--patch-size', type=int, default=16)
    add('--batch', type=int, default=4, help='images (default: %(default)s)')
    add(
        '--crops',
        default='2x224+8x96',
        help='groups of crops, global ones first (default: %(default)s)',
    )
    add('--variants', nargs='+', choices=VARIANTS, default=list(VARIANTS))
    add('--rounds', type=int, default=3, help='default: %(default)s')
    add('--steps', type=int, default=1, help='per round (default: 1)')
    add('--border', choices=('mask', 'wrap'), default='mask')
    add('--out-channels', type=int, default=65536, help='of the class head')
    add('--patch-channels', type=int, default=4096, help='of the patch head')
    add('--hidden-channels', type=int, default=2048)
    add('--threads', type=int, default=1, help='default: %(default)s')
    add('--device', default='cpu')
    add(
        '--dtype',
        choices=('float32', 'bfloat16'),
        help='bfloat16: autocast. Default: float32 on a CPU, '
        'bfloat16 on a GPU',
    )
    add(
        '--compile',
        choices=('off', 'on', 'both'),
        help='torch.compile. Default: off on a CPU, both on a GPU',
    )
    add('--peak-tflops', type=float, help='of the device in this dtype')
    add('--out', help='write the numbers to this JSON file')
    return parser.parse_args(argv)


def parse_crops(text, patch):
    """``2x224+8x96`` as groups of (number, pixels)."""
    try:
        groups = [tuple(map(int, g.split('x'))) for g in text.split('+')]
        groups = [(number, pixels) for number, pixels in groups]
    except ValueError:
        raise SystemExit(
            f'error: --crops {text}: needs NUMBERxPIXELS+NUMBERxPIXELS, '
            'for instance 2x224+8x96.'
        ) from None
    for number, pixels in groups:
        if number < 1 or pixels < patch or pixels % patch:
            raise SystemExit(
                f'error: --crops {number}x{pixels}: needs at least one crop '
                f'of a multiple of --patch-size {patch} pixels.'
            )
    if groups[0][0] < 2:
        raise SystemExit('error: --crops: needs at least two global crops.')
    return tuple(groups)


def ratios(results, top, bottom, key):
    """Ratio of two variants in every round."""
    pairs = zip(results[top]['rounds'], results[bottom]['rounds'])
    return [a[key] / b[key] for a, b in pairs]


def agreements(results):
    """Difference of first loss and of gradients of what should be equal."""
    found = []
    for ours, other in (('selfpatch', 'plain'), ('dino', 'lightly')):
        if ours in results and other in results:
            a, b = (results[name]['first'] for name in (ours, other))
            found.append(
                dict(
                    of=ours,
                    to=other,
                    loss=abs(a['loss'] - b['loss']) / abs(b['loss']),
                    gradient=disagreement(a['prints'], b['prints']),
                )
            )
    return found


def judge(results, macs, batch, key):
    """The goals that can be judged from what was measured."""
    goals = []

    def add(text, values, limit, below, note=''):
        value = statistics.median(values)
        met = value <= limit if below else value >= limit
        spread = (min(values), max(values))
        goals.append(
            dict(
                goal=text,
                value=value,
                range=spread,
                limit=limit,
                below=below,
                met=met,
                note=note,
            )
        )

    if {'selfpatch', 'dino'} <= set(results):
        times = ratios(results, 'selfpatch', 'dino', key)
        arithmetic = macs['selfpatch'] / macs['dino']
        add(
            f'time of SelfPatch over DINO, per {arithmetic:.3f} of arithmetic',
            [t / arithmetic for t in times],
            1.05,
            True,
        )
    if {'selfpatch', 'plain'} <= set(results):
        times = ratios(results, 'plain', 'selfpatch', key)
        add('time of plain over SelfPatch', times, 1.15, False)
        note = '' if batch >= 16 else 'the goal is for a batch of 16 and more'
        peaks = ratios(results, 'selfpatch', 'plain', 'peak')[-1:]
        add('peak memory of SelfPatch over plain', peaks, 0.6, True, note)
        if 'tensors' in results['plain']:
            live = (
                results['selfpatch']['tensors'] / results['plain']['tensors']
            )
            add('the same, live tensors of a step', [live], 0.6, True, note)
    if {'dino', 'lightly'} <= set(results):
        times = ratios(results, 'dino', 'lightly', key)
        add('time of DINO over lightly', times, 1.0, True)
    return goals


def show_macs(rows):
    """Table of multiply-adds."""
    print('multiply-adds of a step, in G (backward counted as two forward)')
    print(
        f'  {"":16s}' + ''.join(f'{p:>13s}' for p in (*PARTS, 'sum')), end=''
    )
    print('   over DINO')
    base = sum(rows[0][1].values())
    for title, parts in rows:
        total = sum(parts.values())
        numbers = [parts[part] for part in PARTS] + [total]
        print(
            f'  {title:16s}'
            + ''.join(f'{n / 1e9:13.2f}' for n in numbers)
            + f'{total / base:12.3f}'
        )


def show_times(results, macs, peak_tflops):
    """Table of time and memory."""
    share = '   % of peak' if peak_tflops else ''
    print(
        '                     wall s (range)           CPU s (range)'
        f'         peak MiB  tensors  GMAC/s{share}'
    )
    for name, found in results.items():
        line = f'  {TITLES[name]:18s}'
        for key in ('wall', 'cpu'):
            values = [r[key] for r in found['rounds']]
            middle = statistics.median(values)
            text = f'{middle:.3f} ({min(values):.3f} to {max(values):.3f})'
            line += f'{text:25s}'
        wall = statistics.median(r['wall'] for r in found['rounds'])
        peak = found['rounds'][-1]['peak'] / MIB
        live = found.get('tensors')
        line += f'{peak:9.0f}'
        line += '        -' if live is None else f'{live / MIB:9.0f}'
        line += f'{macs[name] / wall / 1e9:8.1f}'
        if peak_tflops:
            rate = 2 * macs[name] / wall / 1e12
            line += f'{100 * rate / peak_tflops:12.1f}'
        print(line)


def show_goals(found, goals, key):
    """Agreement and goals."""
    print()
    for pair in found:
        print(
            f'  {TITLES[pair["of"]]} and {TITLES[pair["to"]]} agree: loss to '
            f'{pair["loss"]:.1e}, gradients to {pair["gradient"]:.1e} '
            'of their length'
        )
    print(f'\ngoals, by {"CPU seconds" if key == "cpu" else "wall time"}')
    for goal in goals:
        sign = '<=' if goal['below'] else '>='
        low, high = goal['range']
        spread = f', {low:.3f} to {high:.3f}' if low != high else ''
        note = f' ({goal["note"]})' if goal['note'] else ''
        print(
            f'  {"met    " if goal["met"] else "NOT MET"} {goal["goal"]}: '
            f'{goal["value"]:.3f}{spread}; goal {sign} {goal["limit"]}{note}'
        )


def peak_of(name):
    """Peak TFLOP/s of a GPU by its name; None if it is not known."""
    return next((PEAKS[key] for key in PEAKS if key in name), None)


def device_name(device):
    if torch.device(device).type == 'cuda':
        return torch.cuda.get_device_name(device)
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return platform.machine()


def main(argv=None):
    args = parse_args(argv)
    cuda = torch.device(args.device).type == 'cuda'
    if cuda and not torch.cuda.is_available():
        raise SystemExit(f'error: --device {args.device}: torch sees no GPU.')
    if not cuda:
        if not Path('/proc/self/clear_refs').exists():
            raise SystemExit('error: memory is read from /proc of Linux.')
        os.environ['OMP_NUM_THREADS'] = str(args.threads)
    names = [name for name in VARIANTS if name in args.variants]
    if 'lightly' in names and find_spec('lightly') is None:
        print('lightly is not installed (requirements/peers.txt): left out')
        names.remove('lightly')
    crops = parse_crops(args.crops, args.patch_size)
    dims, layers, _ = ARCHS[args.arch]
    sizes = Sizes(
        dims,
        layers,
        args.patch_size,
        crops,
        args.batch,
        out=args.out_channels,
        patch_out=args.patch_channels,
        hidden=args.hidden_channels,
    )
    rows = mac_rows(sizes)
    sums = [sum(parts.values()) for _, parts in rows]
    macs = dict(zip(('dino', 'selfpatch', 'plain'), sums), lightly=sums[0])
    device = device_name(args.device)
    dtype = args.dtype or ('bfloat16' if cuda else 'float32')
    print(
        f'ViT {args.arch}/{args.patch_size}, {args.batch} images of '
        f'{args.crops}, {dtype}, torch {torch.__version__}, {device}'
        + ('' if cuda else f', threads: {args.threads}')
    )
    show_macs(rows)
    peak = args.peak_tflops
    if peak is None and cuda and dtype == 'bfloat16':
        peak = peak_of(device)
    mode = args.compile or ('both' if cuda else 'off')
    key = 'wall' if cuda else 'cpu'
    report = dict(vars(args), device_name=device, torch=torch.__version__)
    report.update(dtype=dtype, macs=dict(rows), runs=[])
    for compiled in dict(off=[False], on=[True], both=[False, True])[mode]:
        setup = Setup(
            arch=args.arch,
            patch=args.patch_size,
            crops=crops,
            batch=args.batch,
            out=args.out_channels,
            patch_out=args.patch_channels,
            hidden=args.hidden_channels,
            border=args.border,
            device=args.device,
            dtype=dtype,
            compile=compiled,
            threads=args.threads,
        )
        print(f'\ntorch.compile {"on" if compiled else "off"}', flush=True)
        results = measure(names, setup, args.rounds, args.steps)
        show_times(results, macs, peak)
        found = agreements(results)
        goals = judge(results, macs, args.batch, key)
        show_goals(found, goals, key)
        for result in results.values():
            result['first'].pop('prints')
        report['runs'].append(
            dict(
                compile=compiled,
                results=results,
                agreement=found,
                goals=goals,
            )
        )
    if args.out:
        Path(args.out).write_text(json.dumps(report, indent=1))


if __name__ == '__main__':
    main()
