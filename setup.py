"""Build and install mmdense.

``mmdense/.mim`` holds the configs, tools and model index that ``mim`` and
``mmdense.apis`` look up. Command classes make it for every way of
installing: wheels and source distributions get copies, editable installs
get links into the checkout (copies where links are not allowed).
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop

try:
    from setuptools.command.editable_wheel import editable_wheel
except ImportError:  # setuptools < 64 has no PEP 660 builds
    editable_wheel = None

ROOT = Path(__file__).resolve().parent
MIM_NAMES = ('configs', 'tools', 'model-index.yml')


def read_requirements(name: str) -> list:
    """Lines of ``requirements/<name>.txt`` without comments."""
    path = ROOT / 'requirements' / f'{name}.txt'
    lines = [line.split('#')[0].strip() for line in path.open()]
    return [line for line in lines if line]


def read_version() -> str:
    """Version string of the package, without importing it."""
    text = (ROOT / 'mmdense' / 'version.py').read_text(encoding='utf-8')
    match = re.search(r"__version__ = '([^']+)'", text)
    assert match is not None, 'mmdense/version.py has no __version__'
    return match.group(1)


def fill_mim(target: Path, link: bool) -> None:
    """Make ``.mim`` in ``target``.

    Args:
        target (Path): Folder of the package.
        link (bool): Link to the checkout rather than copy.
    """
    mim = target / '.mim'
    if mim.is_symlink() or mim.is_file():
        mim.unlink()
    elif mim.is_dir():
        shutil.rmtree(mim)
    mim.mkdir(parents=True)
    ignore = shutil.ignore_patterns('__pycache__', '*.pyc')
    for name in MIM_NAMES:
        source, goal = ROOT / name, mim / name
        if not source.exists():
            continue
        if link:
            try:
                os.symlink(os.path.relpath(source, mim), goal)
                continue
            except OSError:
                pass
        if source.is_dir():
            shutil.copytree(source, goal, ignore=ignore)
        else:
            shutil.copy2(source, goal)


class BuildPy(build_py):
    """Wheels: copy ``.mim`` into the build."""

    def run(self) -> None:
        """Build the package, then add ``.mim``."""
        super().run()
        if getattr(self, 'editable_mode', False):
            fill_mim(ROOT / 'mmdense', link=True)
        else:
            fill_mim(Path(self.build_lib) / 'mmdense', link=False)


class Develop(develop):
    """``setup.py develop``: link ``.mim`` into the checkout."""

    def run(self) -> None:
        """Install, then add ``.mim``."""
        super().run()
        fill_mim(ROOT / 'mmdense', link=True)


# source distributions get the originals of .mim through MANIFEST.in
commands = {'build_py': BuildPy, 'develop': Develop}
if editable_wheel is not None:

    class EditableWheel(editable_wheel):
        """PEP 660 editable installs: link ``.mim`` into the checkout."""

        def run(self) -> None:
            """Add ``.mim``, then build."""
            fill_mim(ROOT / 'mmdense', link=True)
            super().run()

    commands['editable_wheel'] = EditableWheel

EXTRAS = {
    name: read_requirements(name)
    for name in ('seg', 'det', 'depth', 'onnx', 'tests', 'dev')
}
EXTRAS['all'] = sorted(
    {line for name in ('seg', 'det', 'depth') for line in EXTRAS[name]}
)

setup(
    name='mmdense',
    version=read_version(),
    description='Backbones pre-trained for dense prediction, for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmdense', 'mmdense.*']),
    package_data={'mmdense': ['py.typed', 'results/*.csv']},
    include_package_data=False,
    python_requires='>=3.9',
    install_requires=read_requirements('runtime'),
    extras_require=EXTRAS,
    cmdclass=commands,
    classifiers=[
        'Development Status :: 3 - Alpha',
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    zip_safe=False,
)
