"""Registries of mmdense.

Every registry is a child of the mmengine root registry and imports its
modules on first use, so that an installed mmdense needs no
``custom_imports``. Modules that need an optional toolbox are only listed when
that toolbox is installed; asking for one of them otherwise says what to
install.
"""

import ast
import difflib
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, List, Optional, Tuple, Type

from mmengine import registry as root
from mmengine.registry import Registry as _Registry

_PACKAGE = Path(__file__).parent

# location -> (toolbox it imports, extra of mmdense that installs it)
OPTIONAL_LOCATIONS: Dict[str, Tuple[str, str]] = {
    'mmdense.models.depthers': ('mmseg', 'depth'),
    'mmdense.models.decode_heads': ('mmseg', 'seg'),
    'mmdense.datasets.depth': ('mmseg', 'depth'),
}


class MissingToolboxError(ImportError):
    """A component whose toolbox is not installed; says what to install."""


def toolbox_installed(name: str) -> bool:
    """Whether the package ``name`` can be imported (without importing it)."""
    return find_spec(name) is not None


def _available(locations: List[str]) -> List[str]:
    return [
        loc
        for loc in locations
        if loc not in OPTIONAL_LOCATIONS
        or toolbox_installed(OPTIONAL_LOCATIONS[loc][0])
    ]


def _classes_of(location: str) -> List[str]:
    """Names of the classes defined in the sources of a package."""
    folder = _PACKAGE.joinpath(*location.split('.')[1:])
    names: List[str] = []
    for path in sorted(folder.rglob('*.py')):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        names += [n.name for n in tree.body if isinstance(n, ast.ClassDef)]
    return names


class Registry(_Registry):
    """mmengine registry whose failed look-ups say what to do.

    Args:
        name (str): Name of the registry.
        parent (Registry): The mmengine root registry.
        locations (List[str]): Modules to import on first use. Those in
            :data:`OPTIONAL_LOCATIONS` are left out when their toolbox is
            missing.
    """

    def __init__(
        self, name: str, parent: _Registry, locations: List[str]
    ) -> None:
        super().__init__(
            name,
            parent=parent,
            scope='mmdense',
            locations=_available(locations),
        )
        self._skipped = [
            loc for loc in locations if loc not in self._locations
        ]

    def get(self, key: str) -> Optional[Type]:
        """Look a component up.

        Args:
            key (str): ``'Name'`` or ``'scope.Name'``.

        Returns:
            Type or None: The registered object, None if there is none.

        Raises:
            MissingToolboxError: If the component exists but its toolbox is
                not installed.
        """
        found = super().get(key)
        if found is None:
            name = key.rsplit('.', 1)[-1]
            for location in self._skipped:
                if name in _classes_of(location):
                    toolbox, extra = OPTIONAL_LOCATIONS[location]
                    raise MissingToolboxError(
                        f'{key} needs {toolbox}, which is not installed. '
                        f"Run: pip install 'mmdense[{extra}]'"
                    )
        return found

    def nearest(self, key: str, n: int = 3) -> List[str]:
        """Registered names closest to ``key``, own and root scope."""
        names = set(self.module_dict)
        parent = self.parent
        while parent is not None:
            names |= set(parent.module_dict)
            parent = parent.parent
        return difflib.get_close_matches(key, sorted(names), n=n, cutoff=0.5)


RUNNERS = Registry('runner', root.RUNNERS, ['mmdense.engine'])
LOOPS = Registry('loop', root.LOOPS, ['mmdense.engine'])
HOOKS = Registry('hook', root.HOOKS, ['mmdense.engine'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', root.OPTIM_WRAPPERS, ['mmdense.engine']
)
OPTIMIZERS = Registry('optimizer', root.OPTIMIZERS, ['mmdense.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    root.OPTIM_WRAPPER_CONSTRUCTORS,
    ['mmdense.engine'],
)
PARAM_SCHEDULERS = Registry(
    'parameter scheduler', root.PARAM_SCHEDULERS, ['mmdense.engine']
)
DATASETS = Registry(
    'dataset',
    root.DATASETS,
    ['mmdense.datasets', 'mmdense.datasets.depth'],
)
DATA_SAMPLERS = Registry(
    'data sampler', root.DATA_SAMPLERS, ['mmdense.datasets']
)
TRANSFORMS = Registry(
    'transform',
    root.TRANSFORMS,
    ['mmdense.datasets', 'mmdense.datasets.depth'],
)
MODELS = Registry(
    'model',
    root.MODELS,
    [
        'mmdense.models',
        'mmdense.models.decode_heads',
        'mmdense.models.depthers',
    ],
)
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', root.WEIGHT_INITIALIZERS, ['mmdense.models']
)
METRICS = Registry('metric', root.METRICS, ['mmdense.evaluation'])
VISUALIZERS = Registry(
    'visualizer', root.VISUALIZERS, ['mmdense.visualization']
)
VISBACKENDS = Registry(
    'vis_backend', root.VISBACKENDS, ['mmdense.visualization']
)
RUNNER_CONSTRUCTORS = Registry(
    'runner constructor', root.RUNNER_CONSTRUCTORS, ['mmdense.engine']
)
LOG_PROCESSORS = Registry(
    'log_processor', root.LOG_PROCESSORS, ['mmdense.engine']
)
MODEL_WRAPPERS = Registry(
    'model_wrapper', root.MODEL_WRAPPERS, ['mmdense.models']
)
TASK_UTILS = Registry('task util', root.TASK_UTILS, ['mmdense.models'])
EVALUATORS = Registry('evaluator', root.EVALUATOR, ['mmdense.evaluation'])
