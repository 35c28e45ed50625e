"""Run a function right after a module is imported, whenever that happens.

The fixes of this package wait for the module that they mend, so importing
mmdense stays light and the order of imports does not matter.
"""

import importlib.machinery
import sys
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Sequence

Callback = Callable[[ModuleType], None]


class _CallbackLoader(Loader):
    def __init__(self, loader: Loader, callbacks: List[Callback]) -> None:
        self._loader = loader
        self._callbacks = callbacks

    def create_module(
        self, spec: importlib.machinery.ModuleSpec
    ) -> Optional[ModuleType]:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for callback in self._callbacks:
            callback(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _CallbackFinder(MetaPathFinder):
    """First finder of ``sys.meta_path``; answers for awaited names only."""

    def __init__(self) -> None:
        self.waiting: Dict[str, List[Callback]] = {}

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]],
        target: Optional[ModuleType] = None,
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname not in self.waiting:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, 'find_spec'):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                callbacks = self.waiting.pop(fullname)
                spec.loader = _CallbackLoader(spec.loader, callbacks)
                return spec
        return None


_FINDER = _CallbackFinder()


def when_imported(name: str, callback: Callback) -> None:
    """Call ``callback(module)`` once ``name`` is imported, or now if it is.

    Args:
        name (str): Full module name.
        callback (Callable): Takes the module.
    """
    if name in sys.modules:
        callback(sys.modules[name])
        return
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _FINDER.waiting.setdefault(name, []).append(callback)


def rebind(old: Any, new: Any, packages: Sequence[str]) -> int:
    """Replace ``old`` by ``new`` wherever imported modules already hold it.

    Args:
        old: Object to replace, compared by identity.
        new: Its replacement.
        packages (Sequence[str]): Top-level packages to look through.

    Returns:
        int: Number of names replaced.
    """
    count = 0
    for module_name, module in list(sys.modules.items()):
        if module_name.split('.')[0] not in packages or module is None:
            continue
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)
                count += 1
    return count
