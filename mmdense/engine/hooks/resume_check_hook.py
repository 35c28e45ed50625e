"""Say what changes when a run goes on under other conditions."""

from typing import Any, Dict

from mmengine.hooks import Hook
from mmengine.optim import BaseOptimWrapper

from mmdense.registry import HOOKS
from mmdense.utils.dist import process_info

from .momentum_update_hook import unwrapped

KEY = 'mmdense_run'


def _batch_size(loader: Any) -> int:
    if loader.batch_size is not None:
        return loader.batch_size
    return getattr(loader.batch_sampler, 'batch_size', 0)


def run_facts(runner: Any) -> Dict[str, Any]:
    """What a resumed run should have in common with the first.

    Args:
        runner (Runner): With built loaders and optimiser.

    Returns:
        dict: ``model`` (str), ``world_size``, ``batch_size`` (per process),
        ``accumulative_counts`` and ``epoch_length`` (iterations), ints.
    """
    wrapper = runner.optim_wrapper
    return {
        'model': type(unwrapped(runner.model)).__name__,
        'world_size': process_info()[1],
        'batch_size': _batch_size(runner.train_dataloader),
        'accumulative_counts': getattr(wrapper, '_accumulative_counts', 1),
        'epoch_length': len(runner.train_dataloader),
    }


@HOOKS.register_module()
class ResumeCheckHook(Hook):
    """Warn when a run resumes with another model, batch or world size.

    The facts are kept in the checkpoint. ``tools/train.py`` adds this hook.
    """

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Write the facts down."""
        checkpoint[KEY] = run_facts(runner)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare, if the run resumes."""
        built = isinstance(runner.optim_wrapper, BaseOptimWrapper)
        if not runner._resume or not built or KEY not in checkpoint:
            return
        old, new = checkpoint[KEY], run_facts(runner)
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
    def _consequences(old: Dict[str, Any], new: Dict[str, Any]) -> list:
        lines = []
        if old['model'] != new['model']:
            lines.append(
                'The weights are those of another method; what it has in '
                'common with this one by name is loaded, the rest starts anew.'
            )
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
        if old['epoch_length'] != new['epoch_length']:
            lines.append(
                f'An epoch takes {new["epoch_length"]} iterations instead of '
                f'{old["epoch_length"]}: schedules of learning rate and '
                'weight decay go on by the iterations of the old run and no '
                'longer end with this one; teacher momentum goes by the new '
                'ones and jumps. Start anew for an undisturbed schedule.'
            )
        return lines
