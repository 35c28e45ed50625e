"""Which config reproduces which published rows, and what it starts from."""

import difflib
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import yaml
from mmengine.config import Config

from ..utils.errors import UserValueError
from ..utils.tta import apply_tta
from ..utils.zoo_root import zoo_root
from .config_hash import config_hash
from .published import (
    PublishedRow,
    find_key,
    lines,
    row_key,
    select_rows,
)
from .quoted import quoted_reason

PUBLIC_WEIGHTS = 'configs/public_weights.yml'
# a folder of fine-tuning configs
_BENCHMARKS = 'benchmarks'
# begins the problem of a config whose pre-training has no config yet
WAITS_FOR = 'no pre-training config '
# in the names of configs that start from other weights
_STARTS = '-pre_'


def public_weights(root: Union[str, Path, None] = None) -> Dict[str, Any]:
    """Entries of ``configs/public_weights.yml``.

    Args:
        root (str or Path, optional): Folder with ``configs``. Defaults to
            :func:`mmdense.utils.zoo_root.zoo_root`.

    Returns:
        Dict[str, dict]: Name of the weights to ``File``, ``URL``, ``Page``
        and more; empty if the file is missing.
    """
    path = Path(root or zoo_root()) / PUBLIC_WEIGHTS
    if not path.is_file():
        return {}
    return yaml.safe_load(path.read_text(encoding='utf-8')) or {}


class Start(NamedTuple):
    """Where the starting weights of a config come from.

    Attributes:
        config (str, optional): Pre-training config of ours, by its stem.
        weights (str, optional): Key of ``configs/public_weights.yml``.
        problem (str, optional): Why the weights cannot be had; None if they
            can.
    """

    config: Optional[str] = None
    weights: Optional[str] = None
    problem: Optional[str] = None


class ZooConfig:
    """An entry of a metafile and the config it is of.

    Args:
        entry (dict): Of ``Models``.
        root (Path): Folder with ``configs``.
        metafile (str): For messages.
    """

    def __init__(
        self, entry: Dict[str, Any], root: Path, metafile: str
    ) -> None:
        self.entry = entry
        self.name: str = entry['Name']
        self.place: str = entry['Config']
        self.path = root / entry['Config']
        self.metafile = metafile

    @cached_property
    def cfg(self) -> Config:
        """Config: What the file says, bases included.

        Raises:
            UserValueError: If the file cannot be read.
        """
        try:
            return Config.fromfile(str(self.path))
        except Exception as error:
            raise UserValueError(
                f'{self.place} (listed in {self.metafile}) cannot be read: '
                f'{type(error).__name__}: {error}'
            ) from error

    @property
    def benchmark(self) -> Optional[Dict[str, Any]]:
        """The config's ``benchmark``, None if it has none."""
        found = self.cfg.get('benchmark')
        return None if found is None else dict(found)

    @cached_property
    def hashes(self) -> Tuple[str, str]:
        """Tuple[str, str]: Hash of the config and of its training part.

        With ``benchmark.tta`` the first is that of a test with ``--tta``.
        """
        tested = self.cfg
        if self.tta:
            tested = deepcopy(tested)
            apply_tta(tested)
        return config_hash(tested), config_hash(self.cfg, test=False)

    @property
    def tta(self) -> bool:
        """bool: Whether its rows are those of test-time augmentation."""
        return bool((self.benchmark or {}).get('tta'))

    @property
    def is_evaluation(self) -> bool:
        """bool: Whether it trains nothing: ``max_epochs`` is 0."""
        return (self.cfg.get('train_cfg') or {}).get('max_epochs') == 0

    @property
    def is_fine_tuning(self) -> bool:
        """bool: Whether the config lies with the fine-tuning ones."""
        return _BENCHMARKS in Path(self.place).parts

    @cached_property
    def rows(self) -> List[Tuple[PublishedRow, ...]]:
        """List[Tuple[PublishedRow, ...]]: A line for each ``Reproduces``.

        Raises:
            UserValueError: If one of them matches no line; says where.
        """
        found = []
        for selector in self.entry.get('Reproduces') or []:
            try:
                found.append(select_rows(selector))
            except UserValueError as error:
                raise UserValueError(
                    f'{self.metafile}, {self.name}: {error}'
                ) from error
        return found

    @property
    def keys(self) -> List[str]:
        """List[str]: Keys of the lines that it reproduces."""
        return [row_key(rows[0]) for rows in self.rows]


class Zoo:
    """All configs of a checkout or an installation.

    Configs are read when something about them is asked for.

    Args:
        root (str or Path): Folder with ``configs``.

    Attributes:
        root (Path): The same; where its ``configs`` is a link (as in the
            ``mmdense/.mim`` of a checkout), the folder that it leads to.
    """

    def __init__(self, root: Union[str, Path]) -> None:
        configs = Path(root, 'configs').resolve()
        self.root = configs.parent
        if configs.name != 'configs':
            self.root = Path(root)

    @cached_property
    def configs(self) -> Dict[str, ZooConfig]:
        """Dict[str, ZooConfig]: All entries of the metafiles, by name."""
        found: Dict[str, ZooConfig] = {}
        for path in sorted(self.root.glob('configs/*/metafile.yml')):
            place = path.relative_to(self.root).as_posix()
            try:
                content = yaml.safe_load(path.read_text(encoding='utf-8'))
            except yaml.YAMLError as error:
                raise UserValueError(f'{place}: {error}') from error
            for entry in (content or {}).get('Models') or []:
                found[entry['Name']] = ZooConfig(entry, self.root, place)
        return found

    @cached_property
    def files(self) -> Dict[str, Path]:
        """Dict[str, Path]: Config files by stem, listed anywhere or not."""
        return {
            path.stem: path
            for path in sorted(self.root.glob('configs/*/**/*.py'))
            if '_base_' not in path.parts
        }

    @cached_property
    def public_weights(self) -> Dict[str, Dict[str, Any]]:
        """Dict[str, dict]: ``configs/public_weights.yml``; empty without."""
        return public_weights(self.root)

    def find(self, name: str) -> ZooConfig:
        """Config by name or path.

        Raises:
            UserValueError: If there is none; names the nearest.
        """
        stem = Path(name).stem if name.endswith('.py') else name
        if stem in self.configs:
            return self.configs[stem]
        near = difflib.get_close_matches(stem, self.configs, 3, 0.4)
        raise UserValueError(
            f'No metafile lists a config {stem!r}. Nearest: '
            f'{", ".join(near) or "none"}.'
        )

    @cached_property
    def reproducing(self) -> Dict[str, List[ZooConfig]]:
        """Dict[str, List[ZooConfig]]: Key of a line to its configs."""
        found: Dict[str, List[ZooConfig]] = {}
        for config in self.configs.values():
            for key in config.keys:
                found.setdefault(key, []).append(config)
        return found

    def start(self, config: ZooConfig) -> Start:
        """Where the starting weights of a config come from.

        Args:
            config (ZooConfig): Of this zoo.

        Returns:
            Start: With a problem if neither a config of ours nor an entry of
            the public weights has them.
        """
        if not config.path.is_file():
            return Start(problem=f'{config.place} does not exist')
        try:
            benchmark = config.benchmark
        except UserValueError as error:
            return Start(problem=str(error))
        if benchmark is None:
            if config.is_fine_tuning:
                return Start(problem=f'{config.name} has no benchmark')
            return Start(config=config.name)
        source = benchmark.get('pretraining') or {}
        stem, weights = source.get('config'), source.get('weights')
        if stem:
            if stem not in self.files:
                return Start(config=stem, problem=f'{WAITS_FOR}{stem}')
            return Start(config=stem, problem=self._problem_of(stem))
        if weights:
            missing = weights not in self.public_weights
            problem = f'{weights} is not in {PUBLIC_WEIGHTS}'
            return Start(weights=weights, problem=problem if missing else None)
        return Start(
            problem=f'{config.name}: benchmark.pretraining names neither '
            'config nor weights'
        )

    def _problem_of(self, stem: str) -> Optional[str]:
        """What stops a pre-training that has a start of its own."""
        if _STARTS not in stem or stem not in self.configs:
            return None
        return self.start(self.configs[stem]).problem

    def problems(self, key: str) -> List[str]:
        """Why a published line cannot be reproduced; empty if it can.

        Args:
            key (str): Key of a line.

        Returns:
            List[str]: ``['no config']``, or what stops each of its configs.
        """
        configs = self.reproducing.get(key, [])
        if not configs:
            return ['no config']
        found = [self.start(config).problem for config in configs]
        if not all(found):
            return []
        return [problem for problem in found if problem]

    def missing(
        self, paper: Optional[str] = None, owned: bool = True
    ) -> Dict[str, List[str]]:
        """Published lines that no config reproduces.

        Args:
            paper (str, optional): Of this paper alone.
            owned (bool): The papers' own methods, otherwise the rows of
                other methods. Defaults to True.

        Returns:
            Dict[str, List[str]]: Key of a line to its problems. Rows that
            are quoted on purpose have one that begins with ``'quoted: '``.
        """
        found = {}
        for key, rows in lines().items():
            row = rows[0]
            if row.owned_by_paper != owned:
                continue
            if paper is not None and row.paper.lower() != paper.lower():
                continue
            problems = self.problems(key)
            if problems:
                reason = quoted_reason(row)
                if reason and problems == ['no config']:
                    problems = [f'quoted: {reason}']
                found[key] = problems
        return found


def configs_of_row(
    text: str, root: Union[str, Path, None] = None
) -> List[str]:
    """Config files that reproduce a published line.

    Args:
        text (str): Key of the line, or a part that no other key has.
        root (str or Path, optional): Folder with ``configs``. Defaults to
            :func:`mmdense.utils.zoo_root.zoo_root`.

    Returns:
        List[str]: Their paths; empty if there is none.

    Raises:
        UserValueError: If no line, or more than one, has it.
    """
    key = find_key(text)
    zoo = Zoo(root or zoo_root())
    return [str(config.path) for config in zoo.reproducing.get(key, [])]
