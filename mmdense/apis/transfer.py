"""A config on its way to a number: the stages export, fine-tune, test."""

import os
import os.path as osp
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Optional

from mmengine.config import Config

from ..results.config_hash import (
    config_hash,
    config_place,
    initial_weights,
    train_data,
)
from ..results.rows import file_hash
from ..utils.checkpoint import load_checkpoint_file
from .running import latest_checkpoint
from .stages import Stage, write_text
from .transfer_weights import (
    MissingWeightsError,
    fetch_public,
    how_to_pretrain,
    is_export,
    pretraining_of,
    read_origin,
    share,
    unfinished,
)


@dataclass
class TransferJob:
    """One fine-tuning config and the commands that make a number of it.

    Args:
        config (str): Config file.
        cfg (Config): The same with the options merged.
        work (Path): Folder of all stages: ``export``, ``train``, ``test``;
            the row of a test lies in ``test/results``.
        tools (Path): Folder with ``train.py`` and its launchers.
        options (List[str]): ``key=value`` words for ``--cfg-options``.
        launcher (str): ``'none'``, ``'pytorch'`` or ``'slurm'``. Defaults to
            ``'none'``.
        gpus (int): Number of processes. Defaults to 1.
        partition (str): Of slurm. Defaults to ''.
        amp (bool): Train in mixed precision. Defaults to False.
        trust (bool): Load files that hold more than tensors. Defaults to
            False.

    Attributes:
        weights (str or None): Backbone that the fine-tuning starts from.
        source (str or None): Checkpoint to export it from.
        notes (List[str]): What the user should know.
    """

    # of the config, for the weights
    KEY: ClassVar[str] = 'model.backbone.init_cfg.checkpoint'

    config: str
    cfg: Config
    work: Path
    tools: Path
    options: List[str] = field(default_factory=list)
    launcher: str = 'none'
    gpus: int = 1
    partition: str = ''
    amp: bool = False
    trust: bool = False
    weights: Optional[str] = field(default=None, init=False)
    source: Optional[str] = field(default=None, init=False)
    notes: List[str] = field(default_factory=list, init=False)
    # the config names other weights than are used
    _moved: bool = field(default=False, init=False)
    # what a row says about weights that the user gave
    _pretraining: Optional[dict] = field(default=None, init=False)
    # where the export is kept for other runs, and of which config it is
    _shared: Optional[str] = field(default=None, init=False)
    _own: str = field(default='', init=False)

    @property
    def train_dir(self) -> Path:
        """Work dir of the fine-tuning."""
        return self.work / 'train'

    @property
    def exported(self) -> Path:
        """What the export stage writes."""
        return self.work / 'export' / 'backbone.pth'

    def use(self, weights: str) -> None:
        """Start from given weights whatever the config names.

        Args:
            weights (str): An exported backbone, or any training checkpoint
                that can be exported.

        Raises:
            CheckpointError: If the file cannot be read.
        """
        raw = load_checkpoint_file(weights, trust=self.trust or None)
        self._moved = True
        self._pretraining = pretraining_of(raw, weights, self._origin())
        if is_export(raw):
            self.weights = osp.abspath(weights)
        else:
            self.source = osp.abspath(weights)
            self.weights = str(self.exported)

    def find_weights(self, download: bool = False) -> None:
        """Find what the config says that the fine-tuning starts from.

        A file at ``init_cfg.checkpoint`` is taken, unless it was exported
        from another checkpoint than the latest one of
        ``work_dirs/<benchmark.pretraining.config>``; else that one is to be
        exported to that place; else public weights are fetched.

        Args:
            download (bool): Fetch public weights. Defaults to False.

        Raises:
            MissingWeightsError: If there are none.
        """
        named = initial_weights(self.cfg)
        origin = self._origin()
        own, public = origin.get('config'), origin.get('weights')
        self.weights = named
        if named is not None and '://' in named:
            return
        if named is not None and osp.isfile(named):
            # an export that was killed leaves a file without its directory
            if own is None:
                return
            if not zipfile.is_zipfile(named):
                self.notes.append(f'{named} is not whole: exporting again')
            elif self._is_current(named, own):
                return
        if own is not None:
            self._find_own(own, named)
        elif named is not None and public is not None:
            fetch_public(public, named, download)
        elif named is not None:
            raise MissingWeightsError(
                f'{self.KEY}={named!r} of {self.config} is not there. Pass '
                '--weights FILE.'
            )
        else:
            self.notes.append('the config names no weights: random ones')

    def _origin(self) -> Dict[str, Any]:
        """``benchmark.pretraining`` of the config."""
        benchmark = self.cfg.get('benchmark') or {}
        return dict(benchmark.get('pretraining') or {})

    def _is_current(self, named: str, own: str) -> bool:
        """Whether an export is of the latest checkpoint, or a user's own."""
        latest = latest_checkpoint(osp.join('work_dirs', own))
        if latest is None:
            return True
        origin = read_origin(named)
        if origin is None:
            self.notes.append(
                f'{named} is used as it is. To export {latest} instead, '
                'remove it'
            )
            return True
        if origin['source_hash'] == file_hash(latest):
            return True
        self.notes.append(
            f'{named} was exported from {origin["source"]}: exporting {latest}'
        )
        return False

    def _find_own(self, name: str, named: Optional[str]) -> None:
        folder = osp.join('work_dirs', name)
        self.source = latest_checkpoint(folder)
        if self.source is None:
            export = f'no export at {named} and ' if named else ''
            raise MissingWeightsError(
                f'{self.config} starts from {name}, of which there is '
                f'{export}no checkpoint in {folder}. {how_to_pretrain(name)}.'
            )
        self._own = name
        note = unfinished(name, self.source)
        if note:
            self.notes.append(f'{note}: its export stays in {self.work}')
        self._moved = named is None or note is not None
        self._shared = None if self._moved else named
        self.weights = str(self.exported) if self._moved else named

    def export_stage(self) -> Stage:
        """Write the backbone of :attr:`source` as a plain file."""
        assert self.source is not None
        scope = self.cfg.model.backbone.type.partition('.')[0]
        layout = scope if scope in ('mmseg', 'mmdet') else 'mmpretrain'
        tool = self.tools / 'model_converters' / 'export_backbone.py'
        command = [
            *(sys.executable, '-W', 'ignore', str(tool), self.source),
            *(str(self.exported), '--layout', layout, *self._trust()),
        ]
        return Stage(
            'export',
            self.exported.parent,
            command,
            inputs=[Path(self.source)],
            outputs=[self.exported],
            identity=['export', layout],
        )

    @property
    def only_tests(self) -> bool:
        """Whether there is nothing to train."""
        return False

    def share_export(self) -> None:
        """Put the export where the configs look for it.

        One of an unfinished pre-training stays in the job's folder.
        """
        if self._shared is not None and self.source is not None:
            share(str(self.exported), self._shared, self.source, self._own)

    @property
    def run_config(self) -> Path:
        """Config file that the commands get: the job's own if one is made.

        It lies below a folder ``configs`` as the config itself does, which
        is how a row names it.
        """
        if not self._moved:
            return Path(self.config)
        place = config_place(self.config)
        assert place is not None
        return self.work / place

    def run_config_text(self) -> str:
        """Text of :attr:`run_config`, ``''`` if the config itself is used.

        Options of a command line cannot hold every path.
        """
        if not self._moved:
            return ''
        lines = [f'_base_ = [{osp.abspath(self.config)!a}]']
        lines += self._start_lines()
        if self._pretraining is not None:
            origin = Config(dict(a=self._pretraining)).to_dict()['a']
            origin['_delete_'] = bool(self._origin())
            lines.append(f'benchmark = dict(pretraining={origin!a})')
        return '\n'.join(lines) + '\n'

    def _start_lines(self) -> List[str]:
        """Lines of :attr:`run_config` that name the weights."""
        start: Dict[str, Any] = {'checkpoint': self.weights}
        if not isinstance(self.cfg.model.backbone.get('init_cfg'), dict):
            start.update(type='mmdense.Pretrained')
        return [f'model = dict(backbone=dict(init_cfg={start!a}))']

    def write_config(self) -> None:
        """Write :attr:`run_config` if the job needs one of its own."""
        if self._moved:
            self.run_config.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.run_config, self.run_config_text())

    def train_stage(self) -> Stage:
        """Fine-tune; goes on from the latest checkpoint of its folder."""
        folder = str(self.train_dir)
        command = self._launch('train', [str(self.run_config)])
        # slurm_train.sh takes the folder as an argument of its own
        command += [] if self.launcher == 'slurm' else ['--work-dir']
        command += [folder, '--resume', *(['--amp'] if self.amp else [])]
        command += [*self._trust(), *self._options()]
        loader = self.cfg.get('train_dataloader') or {}
        wrapper = self.cfg.get('optim_wrapper') or {}
        # the hash leaves out what a row states by itself
        by_themselves = [
            *(loader.get('batch_size'), wrapper.get('accumulative_counts')),
            *(self.cfg.get('randomness'), self.cfg.get('auto_scale_lr')),
            *(self.gpus, self.amp, train_data(self.cfg)),
            *self._affine(),
        ]
        recipe = config_hash(self.cfg, test=False)
        identity = ['train', recipe, self._weights_hash()]
        identity += [str(value) for value in by_themselves]
        loop = self.cfg.get('train_cfg') or {}
        return Stage(
            'fine-tuning',
            self.train_dir,
            command,
            epochs=loop.get('max_epochs') or 0,
            identity=identity,
            env=self._env(),
        )

    def test_stage(self, checkpoint: str) -> Stage:
        """Test a checkpoint; the row goes to ``<work>/test/results``.

        Args:
            checkpoint (str): Of the fine-tuning.

        Returns:
            Stage: With ``--tta`` if ``benchmark.tta`` is set. Its folder
            is ``<work>/test``.
        """
        command = self._launch('test', [str(self.run_config), checkpoint])
        folder = self.work / 'test'
        command += ['--work-dir', str(folder), *self._trust()]
        tta = bool((self.cfg.get('benchmark') or {}).get('tta'))
        command += [*(['--tta'] if tta else []), *self._options()]
        is_file = osp.isfile(checkpoint)
        return Stage(
            'test',
            folder,
            command,
            inputs=[Path(checkpoint)] if is_file else [],
            outputs=[folder / 'results' / '*.json'],
            identity=[
                *('test', config_hash(self.cfg), str(self.gpus)),
                *(str(self.cfg.get('benchmark')), str(self._pretraining)),
                *map(str, self._affine()),
            ],
            env=self._env(),
        )

    def tested_checkpoint(self) -> Optional[str]:
        """The last checkpoint.

        The best one was chosen on the images that it is tested on.
        """
        return latest_checkpoint(str(self.train_dir))

    def _launch(self, script: str, positional: List[str]) -> List[str]:
        if self.launcher == 'none':
            python = [sys.executable, '-W', 'ignore']
            return [*python, str(self.tools / f'{script}.py'), *positional]
        kind = 'dist' if self.launcher == 'pytorch' else 'slurm'
        shell = ['bash', str(self.tools / f'{kind}_{script}.sh')]
        if self.launcher == 'pytorch':
            return [*shell, *positional, str(self.gpus)]
        name = osp.splitext(osp.basename(self.config))[0]
        return [*shell, self.partition, name, *positional]

    def _env(self) -> Dict[str, str]:
        if self.launcher == 'none':
            return {}
        env = {'PYTHON': sys.executable}
        if self.launcher == 'slurm':
            per_node = os.environ.get('GPUS_PER_NODE', min(self.gpus, 8))
            env.update(GPUS=str(self.gpus), GPUS_PER_NODE=str(per_node))
        return env

    def _trust(self) -> List[str]:
        return ['--trust-checkpoint'] if self.trust else []

    def _affine(self) -> List[float]:
        """Scale and shift of a depth head, which the hash leaves out."""
        head = (self.cfg.get('model') or {}).get('decode_head') or {}
        if not isinstance(head, dict):
            return []
        values = (head.get('scale'), head.get('shift'))
        return [value for value in values if value is not None]

    def _options(self) -> List[str]:
        words = list(self.options)
        if self._moved:  # the config of the job has it
            words = [w for w in words if not w.startswith(f'{self.KEY}=')]
        return ['--cfg-options', *words] if words else []

    def _weights_hash(self) -> str:
        if self.source is not None:
            # a file that is to be exported again is not what will be used
            if not self.export_stage().done:
                return 'not exported yet'
            return str(file_hash(self.exported))
        return file_hash(self.weights) or str(self.weights)
