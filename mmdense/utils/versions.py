"""Check the versions of the stack that mmdense is imported with."""

import importlib.util
import os
import re
import warnings
from pathlib import Path
from typing import Dict, List, Optional, Tuple

SKIP_VARIABLE = 'MMDENSE_SKIP_VERSION_CHECK'

# import name -> (first version that works, first that was not tried or None,
#                 what to install, required for every use of mmdense)
BOUNDS: Dict[str, Tuple[str, Optional[str], str, bool]] = {
    'torch': ('2.1', None, 'torch==2.14.1', True),
    'mmengine': ('0.10.0', '1.0.0', 'mmengine==0.10.7', True),
    'mmcv': ('2.0.0', '2.2.0', 'mmcv-lite==2.1.0', True),
    'mmpretrain': ('1.2.0', '2.0.0', 'mmpretrain==1.2.0', True),
    'mmseg': ('1.2.0', '2.0.0', 'mmsegmentation==1.2.2', False),
    'mmdet': ('3.2.0', '4.0.0', 'mmdet==3.3.0', False),
}


class StackError(ImportError):
    """A package of the stack is missing or too old."""


def parse(version: str) -> Tuple[int, ...]:
    """Numbers of a version: ``'2.1.0rc1+cpu'`` gives ``(2, 1, 0)``."""
    numbers = []
    for part in version.split('+')[0].split('.'):
        match = re.match(r'\d+', part)
        if not match:
            break
        numbers.append(int(match.group()))
    return tuple(numbers)


def version_of(package: str) -> Optional[str]:
    """Version of an importable package, without importing it.

    The package's own ``version.py`` is read rather than the metadata of a
    distribution: forks keep the import name and change the distribution.

    Args:
        package (str): Import name.

    Returns:
        str or None: None if the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    source = Path(spec.origin).with_name('version.py')
    if source.is_file():
        text = source.read_text(encoding='utf-8')
        match = re.search(
            r"""^__version__\s*(?::[^=]+)?=\s*['"]([^'"]+)""", text, re.M
        )
        if match:
            return match.group(1)
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return '0'


def check_stack() -> List[str]:
    """Raise for what cannot work, warn for what was not tried.

    Returns:
        List[str]: The warnings given.

    Raises:
        StackError: If a required package is missing or a package is older
            than its lower bound; the message has the command to run.
    """
    if os.environ.get(SKIP_VARIABLE, '') not in ('', '0'):
        return []
    problems, installs, cautions = [], [], []
    for package, (lower, upper, install, required) in BOUNDS.items():
        version = version_of(package)
        if version is None:
            if required:
                problems.append(f'{package} is not installed')
                installs.append(install)
            continue
        if parse(version) < parse(lower):
            problems.append(f'{package} {version} is older than {lower}')
            installs.append(install)
        elif upper is not None and parse(version) >= parse(upper):
            cautions.append(
                f'{package} {version} was not tried with mmdense '
                f'(tried: >={lower},<{upper}); {SKIP_VARIABLE}=1 silences '
                'this.'
            )
    if problems:
        quoted = ' '.join(f"'{name}'" for name in installs)
        raise StackError(
            f'mmdense cannot run: {"; ".join(problems)}.\n'
            f"Run: pip install {quoted} 'numpy<2' 'setuptools<81' "
            "'opencv-python<4.12'"
        )
    for text in cautions:
        warnings.warn(text, stacklevel=3)
    return cautions


__all__ = ['BOUNDS', 'StackError', 'check_stack', 'parse', 'version_of']
