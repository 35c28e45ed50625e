"""Import hook that serves ``mmcv._ext`` where mmcv was not compiled."""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Optional, Sequence

EXTENSION = 'mmcv._ext'


class StandInLoader(Loader):
    """Fills the module ``mmcv._ext`` with mmdense's operators."""

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Leave the creation of the empty module to Python.

        Args:
            spec (ModuleSpec): Spec of ``mmcv._ext``.

        Returns:
            ModuleType or None: Always None, the default module.
        """
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the operators into the module.

        Args:
            module (ModuleType): The empty ``mmcv._ext``.
        """
        # Here and not at the top: torch and torchvision are imported only
        # when somebody asks for the operators.
        from .extension import populate

        populate(module)


class StandInFinder(MetaPathFinder):
    """Answers for ``mmcv._ext`` and only when no other finder does."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]],
        target: Optional[ModuleType] = None,
    ) -> Optional[ModuleSpec]:
        """Offer the stand-in for ``mmcv._ext``.

        Args:
            fullname (str): Absolute name of the module asked for.
            path (Sequence[str], optional): ``mmcv.__path__``.
            target (ModuleType, optional): Module to reload. Defaults to None.

        Returns:
            ModuleSpec or None: A compiled extension if a finder behind this
            one knows it, else the stand-in; None for every other module.
        """
        if fullname != EXTENSION:
            return None
        return _compiled_spec(path) or ModuleSpec(
            EXTENSION, StandInLoader(), origin='mmdense.utils.mmcv_ext'
        )


def _compiled_spec(path: Optional[Sequence[str]]) -> Optional[ModuleSpec]:
    """Ask every finder but ours for ``mmcv._ext``."""
    for finder in list(sys.meta_path):
        if isinstance(finder, StandInFinder):
            continue
        search = getattr(finder, 'find_spec', None)
        spec = search(EXTENSION, path) if search is not None else None
        if spec is not None:
            return spec
    return None


def _mmcv_path() -> Optional[Sequence[str]]:
    """Folders of the package mmcv, without importing it."""
    if 'mmcv' in sys.modules:
        return getattr(sys.modules['mmcv'], '__path__', None)
    spec = find_spec('mmcv')
    return None if spec is None else spec.submodule_search_locations


def install() -> bool:
    """Make ``mmcv._ext`` importable where mmcv has no compiled operators.

    Appends one finder to the end of :data:`sys.meta_path`; a compiled
    extension therefore always wins. Nothing of mmcv, torch or torchvision is
    imported. Calling it again changes nothing. Call it before mmseg or mmdet
    are imported, in every process that imports them.

    Returns:
        bool: True if the compiled operators are missing and the stand-in
        serves in their place; False if they are there, or mmcv itself is not
        installed.
    """
    loaded = sys.modules.get(EXTENSION)
    if loaded is not None:
        spec = getattr(loaded, '__spec__', None)
        return isinstance(getattr(spec, 'loader', None), StandInLoader)
    path = _mmcv_path()
    if path is None or _compiled_spec(path) is not None:
        return False
    if not any(isinstance(f, StandInFinder) for f in sys.meta_path):
        sys.meta_path.append(StandInFinder())
    return True
