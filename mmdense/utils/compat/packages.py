"""Packages whose presence or absence breaks an import of the stack.

* mmengine looks packages up through ``pkg_resources``, which setuptools
  82 and later no longer have;
* mmpretrain imports its multimodal models as soon as ``transformers`` and
  ``pycocotools`` are both installed, and those models do not import with a
  recent ``transformers``.
"""

import importlib.util
from importlib import metadata
from pathlib import Path
from types import ModuleType

from .hooks_on_import import rebind, when_imported

_TOOLBOXES = ('mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet')


def pkg_resources_missing() -> bool:
    """Whether mmengine's package look-up cannot work."""
    return importlib.util.find_spec('pkg_resources') is None


def is_installed(package: str) -> bool:
    """Whether a distribution or an importable module has this name.

    Args:
        package (str): Distribution name (``mmsegmentation``) or module name
            (``mmseg``).

    Returns:
        bool: True if either exists.
    """
    try:
        metadata.distribution(package)
        return True
    except metadata.PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        return spec is not None and spec.origin is not None


def get_installed_path(package: str) -> str:
    """Folder of the module that a distribution installs.

    Args:
        package (str): Distribution or module name.

    Returns:
        str: Path of the package folder.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    names = [package]
    try:
        top = metadata.distribution(package).read_text('top_level.txt')
        names += (top or '').split()
    except metadata.PackageNotFoundError:
        pass
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).parent)
    raise ModuleNotFoundError(f'{package} is not installed')


def _mend_lookup(module: ModuleType) -> None:
    if not pkg_resources_missing():
        return
    for own in (is_installed, get_installed_path):
        stock = getattr(module, own.__name__)
        setattr(module, own.__name__, own)
        rebind(stock, own, _TOOLBOXES)


def transformers_breaks_mmpretrain() -> bool:
    """Whether mmpretrain's multimodal models cannot import.

    They need ``GenerationMixin`` in ``transformers.modeling_utils``. The
    source is read, not imported: importing transformers takes seconds.
    """
    spec = importlib.util.find_spec('transformers')
    if spec is None or spec.origin is None:
        return False
    source = Path(spec.origin).with_name('modeling_utils.py')
    return not (
        source.is_file()
        and 'GenerationMixin' in source.read_text(encoding='utf-8')
    )


def _mend_multimodal(module: ModuleType) -> None:
    if module.WITH_MULTIMODAL and transformers_breaks_mmpretrain():
        module.WITH_MULTIMODAL = False  # type: ignore[attr-defined]


def install() -> None:
    """Mend each part when its module is imported."""
    when_imported('mmengine.utils.package_utils', _mend_lookup)
    when_imported('mmpretrain.utils.dependency', _mend_multimodal)
