"""Registries find their modules by themselves, and say what is missing."""

import os
import subprocess
import sys
import textwrap

import mmdense  # noqa: F401
from mmdense.registry import (
    HOOKS,
    MODELS,
    OPTIONAL_LOCATIONS,
    MissingToolboxError,
    toolbox_installed,
)

HIDE = """
import importlib.abc, importlib.util, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in HIDDEN:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Hidden())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.split('.')[0] in HIDDEN else find_spec(name, package)
)
"""
LOCAL_GLOBAL = """
arch = dict(
    embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16
)
model = dict(
    type='mmdense.LocalGlobal',
    backbone=dict(
        type='mmdense.VisionTransformer', arch=arch, img_size=32,
        out_type='raw',
    ),
    neck=dict(type='mmdense.TokenProjector', in_channels=16, hid_channels=8),
    head=dict(
        type='mmdense.LocalGlobalHead',
        loss=dict(type='mmdense.LocalGlobalLoss'),
    ),
)
"""


def _fresh(code, cwd, hidden=()):
    """Run code in a new process; returns what it prints."""
    code = textwrap.dedent(code)
    if hidden:
        code = f'HIDDEN = {set(hidden)!r}\n{HIDE}{code}'
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=cwd,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_fresh_process__needs_no_custom_imports(tmp_path):
    code = """
    import sys
    import mmdense
    heavy = {'mmseg', 'mmdet', 'mmpretrain', 'matplotlib'}
    print('early', sorted(heavy & set(sys.modules)))
    from mmengine.registry import HOOKS, MODELS, init_default_scope
    loss = MODELS.build(dict(type='mmdense.LocalGlobalLoss'))
    print('prefixed', type(loss).__module__)
    init_default_scope('mmdense')
    for registry, name in (
        (MODELS, 'LocalGlobalLoss'),
        (HOOKS, 'CollapseMonitorHook'),
        (HOOKS, 'IterTimerHook'),
    ):
        print('default', type(registry.build(dict(type=name))).__module__)
    """
    out = _fresh(code, tmp_path)
    assert 'early []' in out
    assert 'prefixed mmdense.models.losses' in out
    assert 'default mmdense.models.losses' in out
    assert 'default mmdense.engine.hooks' in out
    assert 'default mmengine.hooks' in out


PRE_TRAINING = """
import sys
import mmdense.apis, mmdense.datasets, mmdense.engine, mmdense.evaluation
import mmdense.models
from mmengine.config import ConfigDict
from mmengine.registry import MODELS as ROOT
from mmdense.apis.config_check import find_problems
from mmdense.registry import MODELS, MissingToolboxError, toolbox_installed
"""


def test_missing_mmseg__pre_training_works_and_depth_says_why(tmp_path):
    code = """
    print('built', type(MODELS.build(model)).__name__)
    print('installed', toolbox_installed('mmseg'), 'mmseg' in sys.modules)
    for registry in (MODELS, ROOT):
        try:
            registry.build(dict(type='mmdense.UpProjDepthHead'))
        except MissingToolboxError as error:
            print('said:', error)
    print('none:', MODELS.get('mmdense.NoSuchHead'))
    cfg = ConfigDict(
        default_scope='mmdense',
        model=dict(
            type='mmdense.DepthEstimator',
            decode_head=dict(type='mmseg.UPerHead'),
        ),
    )
    print(*find_problems(cfg), sep='\\n')
    """
    code = PRE_TRAINING + LOCAL_GLOBAL + textwrap.dedent(code)
    out = _fresh(code, tmp_path, {'mmseg'})
    assert 'built LocalGlobal' in out
    assert 'installed False False' in out
    said = [line for line in out.splitlines() if line.startswith('said:')]
    assert len(said) == 2
    for line in said:
        assert 'mmseg, which is not installed' in line
        assert "pip install 'mmdense[depth]'" in line
    assert 'none: None' in out
    (depth,) = [x for x in out.splitlines() if x.startswith('model.type')]
    assert "pip install 'mmdense[depth]'" in depth
    (head,) = [x for x in out.splitlines() if x.startswith('model.decode')]
    assert "pip install 'mmdense[seg]'" in head


def test_missing_mmdet__pre_training_and_depth_work(tmp_path):
    code = """
    print('built', type(MODELS.build(model)).__name__)
    print('installed', toolbox_installed('mmdet'))
    if toolbox_installed('mmseg'):
        print('depth', MODELS.get('mmdense.UpProjDepthHead').__name__)
    print('loaded', 'mmdet' in sys.modules)
    """
    code = PRE_TRAINING + LOCAL_GLOBAL + textwrap.dedent(code)
    out = _fresh(code, tmp_path, {'mmdet'})
    assert 'built LocalGlobal' in out
    assert 'installed False' in out
    assert 'loaded False' in out
    if toolbox_installed('mmseg'):
        assert 'depth UpProjDepthHead' in out


def test_optional_locations__name_their_extra():
    extras = {extra for _, extra in OPTIONAL_LOCATIONS.values()}
    assert extras == {'depth', 'seg'}
    assert issubclass(MissingToolboxError, ImportError)


def test_nearest__own_and_root_names():
    MODELS.get('LocalGlobal')
    HOOKS.get('CollapseMonitorHook')
    assert MODELS.nearest('TokenProjektor')[0] == 'TokenProjector'
    assert HOOKS.nearest('ItrTimerHook')[0] == 'IterTimerHook'
    assert MODELS.nearest('qqqqqqqqqqqqqqqq') == []


def test_get__unknown_name_is_none():
    assert MODELS.get('mmdense.Nothing') is None


def test_toolbox_installed__looks_without_importing():
    assert toolbox_installed('mmengine')
    assert not toolbox_installed('mmdense_no_such_toolbox')
