"""The import hook: when it serves, when it stays away, what it says."""

import importlib
import importlib.util
import os
import subprocess
import sys
import textwrap
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from mmdense.utils.mmcv_ext import extension, finder, install
from mmdense.utils.mmcv_ext.torchvision_ops import torchvision_ops

COMPILED = not install()
needs_stand_in = pytest.mark.skipif(
    COMPILED, reason='mmcv is compiled here: the stand-in does not serve'
)


def run(code):
    """Run code in a fresh interpreter; returns its standard output."""
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


class FakeFinder(MetaPathFinder, Loader):
    """A 'compiled' mmcv._ext that comes from anywhere."""

    def find_spec(self, fullname, path, target=None):
        if fullname != 'mmcv._ext':
            return None
        return ModuleSpec(fullname, self, origin='fake')

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.compiled = True


@pytest.fixture
def clean_imports(monkeypatch):
    """No mmcv._ext loaded, and a copy of the import hooks without ours."""
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    hooks = [
        f for f in sys.meta_path if not isinstance(f, finder.StandInFinder)
    ]
    monkeypatch.setattr(sys, 'meta_path', hooks)


def ours():
    return [f for f in sys.meta_path if isinstance(f, finder.StandInFinder)]


@needs_stand_in
def test_install__appends_one_finder_at_the_end(clean_imports):
    before = list(sys.meta_path)
    assert install() is True
    assert install() is True
    assert sys.meta_path[:-1] == before
    assert len(ours()) == 1


@pytest.mark.parametrize('place', [0, None])
def test_install__stays_away_from_a_compiled_extension(clean_imports, place):
    where = len(sys.meta_path) if place is None else place
    sys.meta_path.insert(where, FakeFinder())
    assert install() is False
    assert ours() == []


@pytest.mark.parametrize('where', ['before', 'behind'])
def test_finder__yields_to_one_that_comes_later(
    clean_imports, monkeypatch, where
):
    sys.meta_path.append(finder.StandInFinder())
    place = 0 if where == 'before' else len(sys.meta_path)
    sys.meta_path.insert(place, FakeFinder())
    path = finder._mmcv_path()
    spec = finder.StandInFinder().find_spec('mmcv._ext', path)
    if not COMPILED:  # there the extension on the disk answers first
        assert spec.origin == 'fake'
    assert not isinstance(spec.loader, finder.StandInLoader)


def test_install__loaded_extension_that_is_not_ours(
    clean_imports, monkeypatch
):
    monkeypatch.setitem(sys.modules, 'mmcv._ext', ModuleType('mmcv._ext'))
    assert install() is False
    assert ours() == []


@needs_stand_in
def test_install__loaded_extension_that_is_ours():
    loaded = importlib.import_module('mmcv._ext')
    assert install() is True
    assert isinstance(loaded.__spec__.loader, finder.StandInLoader)


def test_install__without_mmcv(clean_imports, monkeypatch):
    monkeypatch.setattr(finder, '_mmcv_path', lambda: None)
    assert install() is False
    assert ours() == []


def test_finder__answers_for_nothing_else():
    hook = finder.StandInFinder()
    for name in ('mmcv', 'mmcv.ops', '_ext', 'mmcv._ext.nms', 'torch'):
        assert hook.find_spec(name, None) is None


@needs_stand_in
def test_import__serves_mmcv_ops():
    out = run("""
        from mmdense.utils.mmcv_ext import install
        assert install()
        import sys
        assert 'torchvision' not in sys.modules
        import mmcv._ext
        assert 'mmcv.ops' not in sys.modules
        from mmcv.ops import nms, get_compiler_version
        from mmcv.utils import collect_env
        collect_env()
        print(get_compiler_version())
    """)
    assert out.startswith('none (mmdense stand-in for mmcv._ext, torchvision')


def test_import_mmdense__leaves_mmcv_ops_alone():
    out = run("""
        import sys
        import mmdense
        from mmdense.utils.mmcv_ext import install
        install()
        print('mmcv.ops' in sys.modules, 'mmcv._ext' in sys.modules)
    """)
    assert out == 'False False'


def test_import_toolboxes__stock_mmseg_and_mmdet():
    pytest.importorskip('mmseg')
    pytest.importorskip('mmdet')
    out = run("""
        from mmdense.utils.mmcv_ext import install
        install()
        import mmseg.models, mmdet.models
        import mmseg.datasets, mmdet.datasets
        from mmdet.registry import MODELS
        print('MaskRCNN' in MODELS, mmseg.models.DepthEstimator.__name__)
    """)
    assert out == 'True DepthEstimator'


@needs_stand_in
def test_missing_operator__raises_when_called():
    ext = importlib.import_module('mmcv._ext')
    assert hasattr(ext, 'carafe_forward')
    with pytest.raises(NotImplementedError) as error:
        ext.carafe_forward(torch.zeros(1), scale_factor=2)
    message = str(error.value)
    assert "'carafe_forward'" in message
    assert 'mim install mmcv==2.1.0' in message
    assert '--stack classic' in message


@needs_stand_in
def test_missing_operator__through_mmcv_ops():
    ops = importlib.import_module('mmcv.ops')
    with pytest.raises(NotImplementedError, match="'box_iou_rotated'"):
        ops.box_iou_rotated(torch.rand(2, 5), torch.rand(2, 5))


@pytest.mark.parametrize('name', ['__path__', '__wrapped__', '_private'])
def test_missing_operator__no_dunder_names(name):
    with pytest.raises(AttributeError, match=name):
        extension.missing_operator(name)
    module = ModuleType('mmcv._ext')
    extension.populate(module)
    assert not hasattr(module, name)
    assert hasattr(module, 'anything_else')


def broken_torchvision(monkeypatch, how):
    if how == 'not installed':
        monkeypatch.setitem(sys.modules, 'torchvision.extension', None)
        return
    fake = ModuleType('torchvision.extension')

    def fail():
        raise RuntimeError("Couldn't load custom C++ ops.")

    fake._assert_has_ops = fail
    monkeypatch.setitem(sys.modules, 'torchvision.extension', fake)


@pytest.mark.parametrize('how', ['not installed', 'wrong build'])
def test_torchvision_ops__says_when_they_cannot_be_loaded(monkeypatch, how):
    broken_torchvision(monkeypatch, how)
    with pytest.raises(RuntimeError, match='does not fit torch'):
        torchvision_ops()
    module = ModuleType('mmcv._ext')
    with pytest.warns(UserWarning, match='cannot be loaded: torchvision'):
        extension.populate(module)
    with pytest.raises(RuntimeError, match='does not fit torch'):
        module.nms(torch.rand(2, 4), torch.rand(2), 0.5)


def test_operators__signatures_are_those_mmcv_calls():
    """Every operator of the table is asked for by mmcv under that name."""
    folder = importlib.util.find_spec('mmcv').submodule_search_locations[0]
    ops = os.path.join(folder, 'ops')
    source = ''
    for name in os.listdir(ops):
        if name.endswith('.py'):
            with open(os.path.join(ops, name), encoding='utf-8') as file:
                source += file.read()
    for name in extension.OPERATORS:
        assert f'ext_module.{name}(' in source, name


def test_install__after_mmpretrain_was_imported():
    """mmcv keeps an old name only if the operators were there at first."""
    code = (
        'import mmpretrain.models\n'
        'import mmdense\n'
        'import mmdet.models, mmseg.models\n'
        'from mmcv.cnn.bricks.transformer import '
        'MultiScaleDeformableAttention as old\n'
        'from mmcv.ops import MultiScaleDeformableAttention as new\n'
        'print(old is new)'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == 'True'
