"""Wheel, source distribution and editable install hold the same zoo."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from mmdense.testing.launch import ROOT

pytestmark = pytest.mark.slow

COPIED = (
    'LICENSE',
    'MANIFEST.in',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'README.md',
    'configs',
    'mmdense',
    'model-index.yml',
    'pyproject.toml',
    'requirements',
    'setup.py',
    'tools',
)
# Run without site: .pth files of this environment, and with them the working
# tree's own editable install, are not read; those of the tried one are.
PROBE = """
import json, site, sys
site.addsitedir(sys.argv[1])
import mmdense
from pathlib import Path
from mmdense.apis import list_models, model_config
package = Path(mmdense.__file__).parent
mim = package / '.mim'
names = list_models()
backbones = {}
for name in [n for n in names if 'local-global_vit' in n][:2]:
    backbones[name] = model_config(name).model.backbone.type
print('RESULT' + json.dumps(dict(
    package=str(package),
    mim=sorted(p.name for p in mim.iterdir()),
    bases=len(list((mim / 'configs' / '_base_').rglob('*.py'))),
    scripts=sorted(p.name for p in (mim / 'tools').glob('*.sh')),
    names=names, backbones=backbones,
)))
"""


def _python(*args, cwd, path=None):
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PIP_NO_INDEX': '1'}
    env['PIP_DISABLE_PIP_VERSION_CHECK'] = '1'
    env.pop('PYTHONPATH', None)
    if path:
        env['PYTHONPATH'] = os.pathsep.join(map(str, path))
    done = subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    return done.stdout


def _copy_tree(target):
    """Sources without what earlier builds left in them."""
    target.mkdir()
    ignore = shutil.ignore_patterns('__pycache__', '.mim', '*.egg-info')
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignore)
        else:
            shutil.copy2(source, target / name)
    return target


def _install(what, target, cwd):
    options = ['--no-deps', '--no-build-isolation', '--no-index', '--quiet']
    words = ['-m', 'pip', 'install', *options, '--target', target]
    _python(*words, *what, cwd=cwd)


def _probe(site, cwd):
    packages = [p for p in sys.path if p and Path(p).resolve() != ROOT]
    words = ['-S', '-c', PROBE, site]
    out = _python(*words, cwd=cwd, path=[site, *packages])
    return json.loads(out.split('RESULT')[1])


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    for module in ('setuptools', 'wheel'):
        pytest.importorskip(module)
    return _copy_tree(tmp_path_factory.mktemp('sources') / 'mmdense-sources')


@pytest.fixture(scope='module')
def archives(tree, tmp_path_factory):
    """The sdist, and wheels made from the tree and from the sdist."""
    out = tmp_path_factory.mktemp('archives')
    code = (
        'import setuptools.build_meta as backend;'
        f'print(backend.build_sdist({str(out)!r}))'
    )
    sdist = out / _python('-c', code, cwd=tree).split()[-1]
    found = {'sdist': sdist}
    for name, source in (('wheel', tree), ('wheel of sdist', sdist)):
        folder = out / name.replace(' ', '_')
        words = ['-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation']
        words += ['--no-index', '--quiet', '--wheel-dir', folder, source]
        _python(*words, cwd=out)
        (found[name],) = folder.glob('*.whl')
    return found


@pytest.fixture(scope='module')
def installs(tree, archives, tmp_path_factory):
    """What each way of installing finds, seen from another folder."""
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    found = {}
    for kind in ('wheel', 'wheel of sdist', 'editable'):
        site = tmp_path_factory.mktemp('site')
        what, origin = [archives.get(kind)], site
        if kind == 'editable':
            what, origin = ['--editable', tree], tree
        _install(what, site, elsewhere)
        found[kind] = _probe(site, elsewhere)
        assert found[kind]['package'].startswith(str(origin))
    return found


def test_install__brings_configs_tools_and_index(installs):
    for kind, found in installs.items():
        assert found['mim'] == ['configs', 'model-index.yml', 'tools'], kind
        assert found['bases'] > 0, kind
        assert 'dist_train.sh' in found['scripts'], kind


def test_install__lists_the_same_models(installs):
    names = {kind: found['names'] for kind, found in installs.items()}
    assert names['wheel']
    assert names['wheel'] == names['wheel of sdist'] == names['editable']


def test_install__configs_parse_with_their_bases(installs):
    for kind, found in installs.items():
        assert set(found['backbones'].values()) == {
            'mmdense.VisionTransformer'
        }, kind


def test_wheel__holds_every_module_and_config(archives):
    inside = set(zipfile.ZipFile(archives['wheel']).namelist())
    again = set(zipfile.ZipFile(archives['wheel of sdist']).namelist())
    assert inside == again
    wanted = {'mmdense/py.typed'}
    for folder in ('mmdense', 'configs', 'tools'):
        for path in (ROOT / folder).rglob('*'):
            relative = path.relative_to(ROOT)
            hidden = {'.mim', '__pycache__'} & set(relative.parts)
            if path.suffix in ('.py', '.sh', '.yml') and not hidden:
                prefix = '' if folder == 'mmdense' else 'mmdense/.mim/'
                wanted.add(prefix + relative.as_posix())
    assert sorted(wanted - inside) == []
    stray = [n for n in inside if n.startswith('tests') or n.endswith('.pyc')]
    assert stray == []


def test_install__leaves_the_working_tree_alone(installs, tree):
    site = sysconfig.get_paths()['purelib']
    out = _python('-c', 'import mmdense; print(mmdense.__file__)', cwd=site)
    assert str(tree) not in out
