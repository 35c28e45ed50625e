"""Say what changes when a run goes on under other conditions."""

from typing import Any, Dict, List

from mmengine.hooks import Hook
from mmengine.optim import BaseOptimWrapper
from torch import nn

from mmdense.registry import HOOKS
from mmdense.utils.dist import process_info
from mmdense.utils.errors import UserError

from .momentum_update_hook import unwrapped

KEY = 'mmdense_run'
HEADS = 'num_heads'


def _batch_size(loader: Any) -> int:
    if loader.batch_size is not None:
        return loader.batch_size
    return getattr(loader.batch_sampler, 'batch_size', 0)


def head_counts(model: nn.Module) -> Dict[str, List[int]]:
    """Numbers of attention heads, which the shapes of weights do not show.

    Args:
        model (nn.Module): Of any kind. Its teacher is left out: it is a copy.

    Returns:
        Dict[str, List[int]]: For each part with attention, named by its path
        (``'backbone'``, ``'method.pool'``), the distinct numbers in order.
    """
    counts: Dict[str, List[int]] = {}
    for path, module in model.named_modules():
        heads = getattr(module, 'num_heads', None)
        names = path.split('.')
        if type(heads) is not int or 'teacher' in names:
            continue
        # in front of the list of blocks or stages
        lists = [i for i, name in enumerate(names) if name.isdigit()]
        if lists:
            names = names[: max(lists[0] - 1, 0)]
        found = counts.setdefault('.'.join(names), [])
        if heads not in found:
            found.append(heads)
    return counts


def run_facts(runner: Any) -> Dict[str, Any]:
    """What a resumed run should have in common with the first.

    Args:
        runner (Runner): With built loaders and optimiser.

    Returns:
        dict: ``model`` (str), ``world_size``, ``batch_size`` (per process),
        ``accumulative_counts``, ``epoch_length`` and ``max_iters``
        (iterations), ints.
    """
    wrapper = runner.optim_wrapper
    return {
        'model': type(unwrapped(runner.model)).__name__,
        'world_size': process_info()[1],
        'batch_size': _batch_size(runner.train_dataloader),
        'accumulative_counts': getattr(wrapper, '_accumulative_counts', 1),
        'epoch_length': len(runner.train_dataloader),
        'max_iters': runner.max_iters,
    }


@HOOKS.register_module()
class ResumeCheckHook(Hook):
    """Warn when a run resumes with another batch, length or world size.

    Also where weights are loaded without resuming (``load_from``), it warns
    of other numbers of attention heads. The facts are kept in the checkpoint.
    ``tools/train.py`` adds this hook.

    Raises:
        UserError: If the run that is resumed trained another model.
    """

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Write the facts down."""
        checkpoint[KEY] = {
            **run_facts(runner),
            # for the row of a test, see mmdense.ResultRowHook
            'train_samples': len(runner.train_dataloader.dataset),
            HEADS: head_counts(unwrapped(runner.model)),
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare heads, and the rest if the run resumes."""
        if KEY not in checkpoint:
            return
        old = checkpoint[KEY]
        built = isinstance(runner.optim_wrapper, BaseOptimWrapper)
        if not runner._resume or not built:
            self._compare_heads(runner, old)
            return
        new = run_facts(runner)
        self._compare_models(old['model'], new['model'])
        self._compare_heads(runner, old)
        changed = [k for k in new if k in old and old[k] != new[k]]
        if not changed:
            return
        lines = [
            f'{key}: {old[key]} before, {new[key]} now' for key in changed
        ]
        lines += self._consequences(old, new)
        runner.logger.warning(
            'The run that is resumed was not set up like this one:\n  '
            + '\n  '.join(lines)
        )

    @staticmethod
    def _compare_models(old: str, new: str) -> None:
        if old == new:
            return
        raise UserError(
            f'resume: the checkpoint is of a run that trained {old}, this '
            f'one trains {new}. Optimiser, schedules and most weights do not '
            f'fit. To start {new} from it, do not resume and set load_from '
            'to the checkpoint (weights of the same name are taken), or '
            'write its backbone to a file with\n  python '
            'tools/model_converters/export_backbone.py CHECKPOINT FILE\nand '
            "set model.backbone.init_cfg=dict(type='Pretrained', "
            'checkpoint=FILE). Use another work dir.'
        )

    @staticmethod
    def _compare_heads(runner: Any, old: Dict[str, Any]) -> None:
        before, now = old.get(HEADS, {}), head_counts(unwrapped(runner.model))
        lines = [
            f'{part or "model"}: {before[part]} before, {now[part]} now'
            for part in now
            if before.get(part, now[part]) != now[part]
        ]
        if lines:
            runner.logger.warning(
                'The checkpoint was trained with other numbers of attention '
                'heads (num_heads). Its weights fit by shape and are loaded, '
                'but attention computes something else with them. Set the '
                'number of the checkpoint:\n  ' + '\n  '.join(lines)
            )

    @staticmethod
    def _consequences(old: Dict[str, Any], new: Dict[str, Any]) -> list:
        lines = []
        factors = ('world_size', 'batch_size', 'accumulative_counts')
        before, now = 1, 1
        for key in factors:
            before, now = before * old[key], now * new[key]
        if before != now:
            lines.append(
                f'A step takes {now} samples instead of {before}. The '
                'learning rate stays that of the checkpoint: nothing scales '
                'it. Centres, and queues of keys, take in so many samples per '
                'step from now on.'
            )
        elif any(old[key] != new[key] for key in factors):
            lines.append(
                f'A step takes {now} samples as before, but other ones: order '
                'and random draws differ, and so does batch normalisation.'
            )
        lengths = [
            (text, old[key], new[key])
            for key, text in (
                ('epoch_length', 'An epoch'),
                ('max_iters', 'The run'),
            )
            if key in old and old[key] != new[key]
        ]
        if lengths:
            listed = '; '.join(
                f'{text} takes {now} iterations instead of {before}'
                for text, before, now in lengths
            )
            lines.append(
                f'{listed}: schedules of learning rate and weight decay go on '
                'by the iterations of the old run and no longer end with this '
                'one; teacher momentum goes by the new ones and jumps. Start '
                'anew for an undisturbed schedule.'
            )
        return lines
