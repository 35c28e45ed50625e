"""Run the step again that mmdense.NonFiniteLossHook has saved.

Prints the terms of the loss beside those of the run, the first module whose
output is not finite, and the gradients that are not finite.

Examples:
    python tools/analysis_tools/replay_step.py non_finite_iter_70_rank0.pth
    python tools/analysis_tools/replay_step.py FILE --device cpu \
        --detect-anomaly
"""

import argparse

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, init_default_scope

import mmdense  # noqa: F401
from mmdense.apis import running
from mmdense.datasets.samplers import SeededIndex
from mmdense.registry import DATASETS, MODELS
from mmdense.utils.checkpoint import load_checkpoint_file
from mmdense.utils.errors import UserError
from mmdense.utils.model_settings import forget_initial_weights
from mmdense.utils.rng import mix_seed
from mmdense.utils.step_record import from_plain, set_rng_state

LISTED = 10
# parts of a record that a replay cannot do without
NEEDED = ('state_dict', 'optimizer', 'rng', 'losses', 'loss', 'config')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('file', help='non_finite_iter_*_rank*.pth')
    parser.add_argument(
        '--config', help='config to build from instead of the saved one'
    )
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default: %(default)s',
    )
    parser.add_argument(
        '--hooks-off',
        action='store_true',
        help='do not look at the outputs of modules',
    )
    parser.add_argument(
        '--detect-anomaly',
        action='store_true',
        help='stop backward at the first NaN and show the forward call that '
        'it belongs to (slow)',
    )
    return parser.parse_args()


def read_record(path):
    record = load_checkpoint_file(path)
    known = record if isinstance(record, dict) else {}
    missing = [key for key in NEEDED if key not in known]
    if missing:
        raise UserError(
            f'{path} is no record of mmdense.NonFiniteLossHook: it lacks '
            f'{", ".join(missing)}.'
        )
    return record


def build_model(cfg, record, device):
    forget_initial_weights(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model)
    try:
        model.load_state_dict(record['state_dict'])
    except RuntimeError as error:
        raise UserError(
            f'The saved weights do not fit the config: {error}'
        ) from error
    return model.to(device).train()


def read_batch(cfg, record):
    """The batch of the record, or its files through the pipeline again."""
    if record.get('batch') is not None:
        return from_plain(record['batch'])
    indices = [sample.get('sample_idx') for sample in record['samples']]
    if not indices or None in indices:
        raise UserError(
            'The file holds neither the batch nor the indices of its samples.'
        )
    print('The batch was not saved: its files are read again.')
    loader = cfg.train_dataloader
    dataset = DATASETS.build(loader.dataset)
    if loader.get('sampler', {}).get('type') != 'mmdense.SeededSampler':
        print('The sampler gives no seeds: augmentations are drawn anew.')
    samples = []
    for index in indices:
        seed = mix_seed(record['seed'], record['epoch'], index)
        samples.append(dataset[SeededIndex(index, seed)])
    collate = dict(loader.get('collate_fn', dict(type='pseudo_collate')))
    return FUNCTIONS.get(collate.pop('type'))(samples, **collate)


def bad_tensors(value, path=''):
    """Paths of the tensors in nested data that are not finite."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and not torch.isfinite(value).all():
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from bad_tensors(item, f'{path}.{key}')
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from bad_tensors(item, f'{path}[{index}]')


def describe(value):
    """What is wrong with a tensor, in words."""
    nan = torch.isnan(value).sum().item()
    infinite = torch.isinf(value).sum().item()
    return f'{nan} NaN and {infinite} infinite of {value.numel()} values'


class FirstBad:
    """Remembers the first module whose output is not finite."""

    def __init__(self, model):
        self.found = None
        self.handles = [
            module.register_forward_hook(self._look(name))
            for name, module in model.named_modules()
            if name
        ]

    def _look(self, name):
        def look(module, inputs, outputs):
            if self.found is not None:
                return
            bad = next(bad_tensors(outputs), None)
            if bad is not None:
                before = next(bad_tensors(inputs), None) is not None
                self.found = (
                    f'{name} ({type(module).__name__}), output{bad[0]}: '
                    f'{describe(bad[1])}; its input is '
                    + ('not finite either' if before else 'finite')
                )

        return look

    def remove(self):  # noqa: D102
        for handle in self.handles:
            handle.remove()


def list_bad(title, found):
    found = list(found)
    if not found:
        print(f'{title}: all finite')
        return
    print(f'{title}: {len(found)} not finite')
    for name, value in found[:LISTED]:
        print(f'  {name.lstrip(".")}: {describe(value)}')
    if len(found) > LISTED:
        print(f'  and {len(found) - LISTED} more')


def forward(model, wrapper, batch, record):
    set_rng_state(record['rng'])
    with wrapper.optim_context(model):
        data = model.data_preprocessor(batch, True)
        list_bad('inputs', bad_tensors(data.get('inputs')))
        losses = model._run_forward(data, mode='loss')
    return losses, model.parse_losses(losses)[0]


def compare(losses, loss, record):
    """Print the terms now and in the run; True if the loss is the same."""
    print(f'{"term":24s}{"replay":>16s}{"run":>16s}')
    rows = {**losses, 'sum of the losses': loss}
    saved = {**record['losses'], 'sum of the losses': record['loss']}
    for name, value in rows.items():
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            old = saved.get(name)
            old = '' if old is None else f'{float(old):16.8g}'
            print(f'{name:24s}{float(value.detach()):16.8g}{old:>16s}')
    now, old = loss.detach().cpu(), record['loss']
    same = torch.equal(now, old) or bool(now.isnan() and old.isnan())
    print(f'the loss of the run is reproduced: {"yes" if same else "no"}')
    if not same and record['world_size'] > 1:
        print(
            f'The run had {record["world_size"]} processes; a loss or a '
            'normalisation that takes vectors from the others differs here.'
        )
    return same


def build_wrapper(cfg, model, state):
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    if not state.get('loss_scaler', True):
        del state['loss_scaler']  # of a run on the CPU
    wrapper.load_state_dict(state)
    return wrapper


def backward(model, wrapper, loss, detect_anomaly):
    if hasattr(wrapper, 'loss_scaler'):
        print(f'loss scale: {wrapper.loss_scaler.get_scale():g}')
        if loss.is_cuda:
            loss = wrapper.loss_scaler.scale(loss)
    try:
        (loss / wrapper._accumulative_counts).backward()
    except RuntimeError as error:
        if not detect_anomaly:
            raise
        print(f'backward: {error}')
        return
    grads = {n: p.grad for n, p in model.named_parameters()}
    list_bad('gradients', bad_tensors(grads))


@running.exit_on_user_error
def main():
    args = parse_args()
    record = read_record(args.file)
    if args.config:
        cfg = running.read_config(args.config)
    else:
        cfg = Config.fromstring(record['config'], '.py')
    MMLogger.get_instance('mmdense', log_level='WARNING')
    init_default_scope(cfg.get('default_scope', 'mmdense'))
    print(
        f'iteration {record["iter"]}, epoch {record["epoch"]}, process '
        f'{record["rank"]} of {record["world_size"]}, mmdense '
        f'{record["mmdense_version"]}'
    )
    for sample in record['samples']:
        print(f'  sample {sample.get("sample_idx")}: {sample.get("img_path")}')
    model = build_model(cfg, record, args.device)
    list_bad('weights and buffers', bad_tensors(dict(model.state_dict())))
    wrapper = build_wrapper(cfg, model, record['optimizer'])
    batch = read_batch(cfg, record)
    first = None if args.hooks_off else FirstBad(model)
    torch.autograd.set_detect_anomaly(args.detect_anomaly)
    losses, loss = forward(model, wrapper, batch, record)
    if first is not None:
        first.remove()
        print(
            'first module with an output that is not finite: '
            + (first.found or 'none')
        )
    compare(losses, loss, record)
    backward(model, wrapper, loss, args.detect_anomaly)


if __name__ == '__main__':
    main()
