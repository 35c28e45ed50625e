"""Trainings and tests that start from a whole model, not from a backbone."""

import os.path as osp
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, List, Mapping, Optional, Tuple

from ..results.config_hash import initial_weights, whole_weights
from ..utils.checkpoint_keys.dpt import detect_dpt
from ..utils.checkpoint_keys.sources import flat_tensors
from ..utils.errors import UserValueError
from .convert_dpt import load_dpt_file
from .running import latest_checkpoint
from .stages import Stage
from .transfer import TransferJob
from .transfer_weights import (
    MissingWeightsError,
    fetch_public,
    how_to_pretrain,
    is_export,
    pretraining_of,
    public_place,
    unfinished,
)

# layout of a file that load_from takes as it is
OWN_LAYOUT = 'mmdense'
_PARTS = ('backbone.', 'decode_head.')


def trains_nothing(cfg: Mapping[str, Any]) -> bool:
    """Whether a config only tests weights that others have trained."""
    return (cfg.get('train_cfg') or {}).get('max_epochs') == 0


def starts_whole(cfg: Mapping[str, Any]) -> bool:
    """Whether a config starts from a whole model.

    Args:
        cfg (Mapping[str, Any]): With ``model`` and ``train_cfg``.

    Returns:
        bool: False if it names the weights of a backbone, or none.
    """
    if trains_nothing(cfg):
        return True
    start = whole_weights(cfg)
    return start is not None and initial_weights(cfg) == start


def read_whole(
    path: str, config: str, trust: Optional[bool] = None
) -> Tuple[Any, str]:
    """Read a file that a config is to start from as a whole.

    Args:
        path (str): A training checkpoint of ours, or a DPT model of another
            layout; ``.safetensors`` too.
        config (str): For the message.
        trust (bool, optional): Load files that hold more than tensors.
            Defaults to None: as the environment says.

    Returns:
        Tuple[Any, str]: What the file holds, and its layout: ``'mmdense'``,
        or one that ``tools/model_converters/convert_dpt.py`` reads.

    Raises:
        UserValueError: If it is a backbone alone, or no model.
        CheckpointError: If it cannot be read.
    """
    raw = load_dpt_file(path, trust)
    state = flat_tensors(raw)[0]
    layout = None if is_export(raw) else detect_dpt(state)
    parts = {p for p in _PARTS if any(k.startswith(p) for k in state)}
    if layout not in (None, OWN_LAYOUT):
        return raw, str(layout)
    if len(parts) == len(_PARTS) and not is_export(raw):
        return raw, OWN_LAYOUT
    raise UserValueError(
        f'{path} is no whole model: it has no '
        f'{" and no ".join(p + "*" for p in _PARTS if p not in parts)}, but '
        f'e.g. {sorted(state)[:3]}. {config} starts from backbone and decode '
        'head together (load_from): pass the training checkpoint '
        '(epoch_N.pth, iter_N.pth) of such a model, not an exported '
        'backbone, or a DPT file of the authors or of Hugging Face.'
    )


def whole_checkpoint(name: str, named: Optional[str]) -> Optional[str]:
    """Checkpoint of a training of ours that others start from.

    Args:
        name (str): Stem of its config.
        named (str, optional): Where the later config looks for it.

    Returns:
        str or None: ``named`` if it is there and whole; else the latest in
        ``work_dirs/<name>``, then in its folder ``train``, which
        ``tools/benchmarks/run.py`` trains in.
    """
    if named is not None and osp.isfile(named) and zipfile.is_zipfile(named):
        return named
    folder = osp.join('work_dirs', name)
    found = latest_checkpoint(folder)
    return found or latest_checkpoint(osp.join(folder, 'train'))


@dataclass
class WholeModelJob(TransferJob):
    """A :class:`TransferJob` of a config that :func:`starts_whole`.

    :attr:`weights` is the whole model that the training loads, or without
    a training what is tested; a :attr:`source` whose names are not ours is
    converted to it, in the folder ``convert``.
    """

    KEY: ClassVar[str] = 'load_from'

    @property
    def only_tests(self) -> bool:
        """Whether there is nothing to train."""
        return trains_nothing(self.cfg)

    @property
    def exported(self) -> Path:
        """What the conversion writes."""
        # the hash of a training has the name, a row that of what was tested
        named = whole_weights(self.cfg)
        if named is None:
            named = f'{osp.splitext(self.source or "model")[0]}.pth'
        return self.work / 'convert' / osp.basename(named)

    def use(self, weights: str) -> None:
        """Start from a given model whatever the config names.

        Args:
            weights (str): See :func:`read_whole`.

        Raises:
            UserValueError: If it is a backbone alone, or no model.
            CheckpointError: If the file cannot be read.
        """
        self._take(weights, given=True)

    def find_weights(self, download: bool = False) -> None:
        """Find what the config says that it starts from.

        ``load_from``; if that is not there, the latest checkpoint of
        ``work_dirs/<benchmark.pretraining.config>``; else public weights.

        Args:
            download (bool): Fetch public weights. Defaults to False.

        Raises:
            MissingWeightsError: If there are none.
        """
        named, origin = whole_weights(self.cfg), self._origin()
        own, public = origin.get('config'), origin.get('weights')
        if named is not None and '://' in named:
            self.weights = named
            return
        path = named
        if own is not None:
            path = whole_checkpoint(own, named)
        elif public is not None:
            path = named or public_place(public)
            if path is not None and not osp.isfile(path):
                # for a dry run
                self.weights = str(self.exported)
                fetch_public(public, path, download)
        if path is None or not osp.isfile(path):
            how = how_to_pretrain(own) if own else 'Pass --weights FILE'
            at = f' (load_from={named!r})' if named else ''
            raise MissingWeightsError(
                f'{self.config} starts from a whole model{at} that is not '
                f'there. {how}.'
            )
        note = unfinished(own, path) if own is not None else None
        self.notes += [note] if note else []
        self._take(path, given=note is not None)
        # words of a command line would win over the checkpoint to resume
        worded = any(w.startswith(f'{self.KEY}=') for w in self.options)
        if not self.only_tests and (path != named or worded):
            self._moved = True

    def _take(self, path: str, given: bool) -> None:
        raw, layout = read_whole(path, self.config, self.trust or None)
        own = layout == OWN_LAYOUT
        if given:
            self._pretraining = {'checkpoint': path, 'method': 'DPT'}
            if own:
                origin = self._origin()
                self._pretraining = pretraining_of(raw, path, origin)
        self._moved = given or not (own or self.only_tests)
        self.source = None if own else osp.abspath(path)
        self.weights = osp.abspath(path) if own else str(self.exported)

    def export_stage(self) -> Stage:
        """Give the model in :attr:`source` our names."""
        assert self.source is not None
        tool = self.tools / 'model_converters' / 'convert_dpt.py'
        command = [
            *(sys.executable, '-W', 'ignore', str(tool), self.source),
            *(str(self.exported), '--layout', OWN_LAYOUT, *self._trust()),
        ]
        return Stage(
            'conversion',
            self.exported.parent,
            command,
            inputs=[Path(self.source)],
            outputs=[self.exported],
            identity=['convert', OWN_LAYOUT],
        )

    def train_stage(self) -> Stage:
        """Fine-tune; goes on from the latest checkpoint of its folder."""
        stage = super().train_stage()
        # without a checkpoint, --resume would drop load_from
        if stage.is_of_another or not latest_checkpoint(str(self.train_dir)):
            stage.command.remove('--resume')
        return stage

    def tested_checkpoint(self) -> Optional[str]:
        """The last checkpoint; :attr:`weights` without a training."""
        if self.only_tests:
            return self.weights
        return super().tested_checkpoint()

    def _start_lines(self) -> List[str]:
        return [] if self.only_tests else [f'load_from = {self.weights!a}']
