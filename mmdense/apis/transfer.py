"""A config on its way to a number: the stages export, fine-tune, test."""

import os
import os.path as osp
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml
from mmengine.config import Config

from ..utils.checkpoint import load_checkpoint_file, local_file
from ..utils.errors import UserError
from .model_zoo import model_index, zoo_root
from .running import latest_checkpoint
from .stages import Stage, file_hash

_START = 'model.backbone.init_cfg.checkpoint'
# what a training does not depend on
_NOT_TRAINING = (
    *('benchmark', 'test_dataloader', 'test_evaluator', 'test_cfg'),
    *('tta_model', 'tta_pipeline', 'visualizer', 'vis_backends'),
    *('work_dir', 'log_level', 'launcher'),
)
# what no result depends on, wherever it stands in a config
_NO_MATTER = ('num_workers', 'persistent_workers', 'pin_memory')


class MissingWeightsError(UserError, FileNotFoundError):
    """The weights to start from are not there; says how to get them."""


@dataclass
class TransferJob:
    """One fine-tuning config and the commands that make a number of it.

    Args:
        config (str): Config file.
        cfg (Config): The same with the options merged.
        work (Path): Folder of all stages: ``export``, ``train``, ``test``
            and, for the rows, ``results``.
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
    # what the user gave instead
    _given: str = field(default='', init=False)
    # where the export is kept for other runs
    _shared: Optional[str] = field(default=None, init=False)

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
        meta = raw.get('meta') if isinstance(raw, dict) else None
        self._moved, self._given = True, weights
        if isinstance(meta, dict) and 'mmdense_export' in meta:
            self.weights = osp.abspath(weights)
        else:
            self.source = osp.abspath(weights)
            self.weights = str(self.exported)

    def find_weights(self, download: bool = False) -> None:
        """Find what the config says that the fine-tuning starts from.

        A file at ``init_cfg.checkpoint`` is taken; else the latest
        checkpoint of ``work_dirs/<benchmark.pretraining.config>`` is to be
        exported to that place; else public weights are fetched.

        Args:
            download (bool): Fetch public weights. Defaults to False.

        Raises:
            MissingWeightsError: If there are none.
        """
        backbone = self.cfg.model.get('backbone') or {}
        named = (backbone.get('init_cfg') or {}).get('checkpoint')
        origin = (self.cfg.get('benchmark') or {}).get('pretraining') or {}
        own, public = origin.get('config'), origin.get('weights')
        self.weights = named
        if named is not None and '://' in named:
            return
        if named is not None and osp.isfile(named):
            # an export that was killed leaves a file without its directory
            if own is None or zipfile.is_zipfile(named):
                return
            self.notes.append(f'{named} is not whole and is written again')
        if own is not None:
            self._find_own(own, named)
        elif named is not None and public is not None:
            fetch_public(public, named, download)
        elif named is not None:
            raise MissingWeightsError(
                f'{_START}={named!r} of {self.config} is not there. Pass '
                '--weights FILE.'
            )
        else:
            self.notes.append('the config names no weights: random ones')

    def _find_own(self, name: str, named: Optional[str]) -> None:
        folder = osp.join('work_dirs', name)
        self.source = latest_checkpoint(folder)
        if self.source is None:
            export = f'no export at {named} and ' if named else ''
            raise MissingWeightsError(
                f'{self.config} starts from {name}, of which there is '
                f'{export}no checkpoint in {folder}. Pre-train with\n  '
                f'{pretraining_command(name)}\nor pass --weights FILE.'
            )
        note = unfinished(name, self.source)
        self.notes += [note] if note else []
        self._moved = named is None
        self._shared = named
        self.weights = named or str(self.exported)

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

    def share_export(self) -> None:
        """Put the export where the configs look for it, in one step."""
        if self._shared is None:
            return
        os.makedirs(osp.dirname(self._shared) or '.', exist_ok=True)
        part = f'{self._shared}.{os.getpid()}.part'
        shutil.copyfile(self.exported, part)
        os.replace(part, self._shared)

    def train_stage(self) -> Stage:
        """Fine-tune; goes on from the latest checkpoint of its folder."""
        folder = str(self.train_dir)
        command = self._launch('train', [self.config])
        # slurm_train.sh takes the folder as an argument of its own
        command += [] if self.launcher == 'slurm' else ['--work-dir']
        command += [folder, '--resume', *(['--amp'] if self.amp else [])]
        command += [*self._trust(), *self._options()]
        identity = [
            *('train', self._recipe(_NOT_TRAINING), self._weights_hash()),
            *(str(self.gpus), str(self.amp)),
        ]
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
        """Test a checkpoint; the row goes to ``<work>/results``.

        Args:
            checkpoint (str): Of the fine-tuning.

        Returns:
            Stage: Its folder is ``<work>/test``.
        """
        command = self._launch('test', [self.config, checkpoint])
        command += ['--work-dir', str(self.work), *self._trust()]
        command += self._options()
        is_file = osp.isfile(checkpoint)
        return Stage(
            'test',
            self.work / 'test',
            command,
            inputs=[Path(checkpoint)] if is_file else [],
            identity=['test', self._recipe(()), str(self.gpus)],
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

    def _options(self) -> List[str]:
        words = list(self.options)
        if self._moved:
            words.append(f'{_START}={self.weights}')
            if self._given:  # a row tells where the weights come from
                words.append(f'benchmark.pretraining.checkpoint={self._given}')
            if not isinstance(self.cfg.model.backbone.get('init_cfg'), dict):
                kind = _START.replace('checkpoint', 'type')
                words.append(f'{kind}=mmdense.Pretrained')
        return ['--cfg-options', *words] if words else []

    def _recipe(self, without: Tuple[str, ...]) -> str:
        """What the config says, but for what does not matter."""
        config = self.cfg.to_dict()
        for key in without:
            config.pop(key, None)
        return repr(_reduced(config))

    def _weights_hash(self) -> str:
        start = Path(self.weights or '')
        if self.source and not start.is_file():
            start = self.exported  # of an earlier run
        return file_hash(start) if start.is_file() else str(self.weights)


def _reduced(node: Any) -> Any:
    """Copy of a config without the keys that no result depends on."""
    if isinstance(node, dict):
        skip: Tuple[str, ...] = _NO_MATTER
        if str(node.get('type')).endswith('Pretrained'):
            skip += ('checkpoint',)  # its content counts
        return {k: _reduced(v) for k, v in node.items() if k not in skip}
    if isinstance(node, (list, tuple)):
        return [_reduced(value) for value in node]
    return node


def public_weights() -> Dict[str, Dict[str, Any]]:
    """Entries of ``configs/public_weights.yml``.

    Returns:
        Dict[str, dict]: Name of the weights to ``File``, ``URL``, ``Page``
        and more; empty if the file is missing.
    """
    path = zoo_root() / 'configs' / 'public_weights.yml'
    return yaml.safe_load(path.read_text()) if path.is_file() else {}


def fetch_public(name: str, path: str, download: bool = False) -> None:
    """Download public weights, or say how.

    Args:
        name (str): Key of :func:`public_weights`.
        path (str): Where to put them.
        download (bool): Fetch them. Defaults to False.

    Raises:
        MissingWeightsError: If they have no address, or may not be fetched.
        CheckpointError: If the address cannot be read.
    """
    entry = public_weights().get(name) or {}
    url, page = entry.get('URL'), entry.get('Page')
    if url and download:
        fetched = local_file(url, folder=osp.dirname(path) or '.')
        if osp.abspath(fetched) != osp.abspath(path):
            os.replace(fetched, path)
        return
    where = f'Fetch {url}' if url else f'Get them from {page or name}'
    more = ', or pass --download' if url else ''
    raise MissingWeightsError(
        f'The public weights {name!r} are not at {path}. {where} and put '
        f'the file there{more}.'
    )


def readable_path(path: str) -> str:
    """A path without links, from the working directory on if it is there."""
    # .mim of a checkout links to its configs
    path = osp.realpath(path)
    short = osp.relpath(path)
    return path if short.startswith(osp.pardir) else short


def pretraining_command(name: str) -> str:
    """Command that trains a pre-training config of the zoo."""
    entry = model_index().get(name)
    path = readable_path(entry['Config']) if entry else f'{name}.py'
    processes = re.search(r'_(\d+)xb\d+', name)
    if processes is None or processes[1] == '1':
        return f'python tools/train.py {path} --resume'
    return f'bash tools/dist_train.sh {path} {processes[1]} --resume'


def unfinished(name: str, checkpoint: str) -> Optional[str]:
    """A note if a checkpoint is not the end of its training.

    Args:
        name (str): Pre-training config in the zoo.
        checkpoint (str): ``epoch_N.pth`` or ``iter_N.pth``.

    Returns:
        str or None: None if it is, or if that cannot be told.
    """
    entry = model_index().get(name)
    found = re.search(r'(epoch|iter)_(\d+)\.pth$', checkpoint)
    if entry is None or found is None:
        return None
    key = 'max_epochs' if found[1] == 'epoch' else 'max_iters'
    planned = Config.fromfile(entry['Config']).train_cfg.get(key)
    if planned is None or int(found[2]) >= planned:
        return None
    return f'{checkpoint} is not the end of its training, {key}={planned}'
