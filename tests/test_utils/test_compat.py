"""Each defect of the stack: the fix works, and only where it is needed."""

import subprocess
import sys
import types

import mmcv
import numpy as np
import pytest
import torch
from mmengine.model.wrappers import MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from mmengine.runner.amp import autocast

import mmdense  # noqa: F401
from mmdense.testing.distributed import free_port, run_distributed
from mmdense.testing.launch import ROOT
from mmdense.utils.compat import (
    checkpoint_loading,
    cpu_training,
    dataloader,
    hooks_on_import,
    hue,
    packages,
)


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_import_mmdense__is_light():
    code = (
        'import sys, mmdense; '
        'print([m for m in ("mmcv.ops", "mmseg", "mmdet", "mmpretrain", '
        '"torchvision", "mmengine.runner") if m in sys.modules])'
    )
    assert _python(code) == '[]'


# --- collate_fn ---------------------------------------------------------


def test_dataloader__scope_does_not_reach_collate_fn():
    assert not dataloader.needed(Runner)
    cfg = {
        'dataset': [torch.ones(2)] * 4,
        'sampler': torch.utils.data.SequentialSampler(range(4)),
        'batch_size': 2,
        'collate_fn': {'type': 'default_collate', '_scope_': 'mmpretrain'},
    }
    batch = next(iter(Runner.build_dataloader(cfg)))
    assert batch.shape == (2, 2)
    assert cfg['collate_fn']['_scope_'] == 'mmpretrain'


def test_dataloader__defect_is_detected():
    class Stock:
        @staticmethod
        def build_dataloader(cfg):
            from functools import partial

            keywords = dict(cfg['collate_fn'])
            keywords.pop('type')
            return types.SimpleNamespace(collate_fn=partial(print, **keywords))

    assert dataloader.needed(Stock)


# --- mixed precision ----------------------------------------------------


def _amp(dtype):
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, AmpOptimWrapper(
        optimizer=optimizer, dtype=dtype, clip_grad={'max_norm': 1.0}
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason='mends CPU machines')
@pytest.mark.parametrize(
    'dtype,inside',
    [
        (None, torch.float32),
        ('float16', torch.float32),
        ('bfloat16', torch.bfloat16),
    ],
)
def test_amp__trains_on_cpu(dtype, inside):
    model, wrapper = _amp(dtype)
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        out = model(torch.ones(2, 4))
    assert out.dtype == inside
    wrapper.update_params(out.float().sum())
    moved = (model.weight - before).norm()
    assert 0 < moved <= 0.1 + 1e-6  # lr times the clipped norm
    state = wrapper.state_dict()
    wrapper.load_state_dict(state)


@pytest.mark.skipif(torch.cuda.is_available(), reason='mends CPU machines')
def test_amp__equals_plain_wrapper_in_float32():
    torch.manual_seed(0)
    model, wrapper = _amp(None)
    twin = torch.nn.Linear(4, 4)
    twin.load_state_dict(model.state_dict())
    plain = OptimWrapper(
        torch.optim.SGD(twin.parameters(), lr=0.1), clip_grad={'max_norm': 1.0}
    )
    for net, optim in ((model, wrapper), (twin, plain)):
        with optim.optim_context(net):
            loss = net(torch.ones(2, 4)).square().sum()
        optim.update_params(loss)
    assert torch.equal(model.weight, twin.weight)


def test_amp__unknown_dtype_is_named():
    with pytest.raises((ValueError, AssertionError), match='float99'):
        _amp('float99')


@pytest.mark.skipif(torch.cuda.is_available(), reason='mends CPU machines')
def test_autocast__float16_request_on_cpu_is_ignored():
    with autocast(dtype=torch.float16):
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.float32
    with autocast(dtype=torch.bfloat16):
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.bfloat16


# --- distributed --------------------------------------------------------


def _wrap(rank, world_size):

    model = torch.nn.Linear(2, 2)
    ddp = MMDistributedDataParallel(module=model, device_ids=[rank])
    ddp(torch.full((1, 2), float(rank + 1))).sum().backward()
    return ddp.module.weight.grad.numpy()


@pytest.mark.dist
def test_ddp__device_ids_on_cpu():
    for grad in run_distributed(_wrap, 2):
        np.testing.assert_allclose(grad, 1.5)


def _init(rank, world_size, launcher, port):
    import os

    from mmengine.dist import init_dist

    torch.distributed.destroy_process_group()
    names = {
        'pytorch': ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'),
        'slurm': ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'),
        'mpi': (
            'OMPI_COMM_WORLD_RANK',
            'OMPI_COMM_WORLD_LOCAL_RANK',
            'OMPI_COMM_WORLD_SIZE',
        ),
    }[launcher]
    for name, value in zip(names, (rank, rank, world_size)):
        os.environ[name] = str(value)
    os.environ['SLURM_NODELIST'] = 'localhost'
    os.environ['MASTER_ADDR'] = '127.0.0.1'
    os.environ['MASTER_PORT'] = str(port)
    init_dist(launcher, backend='nccl')
    total = torch.tensor([rank + 1.0])
    torch.distributed.all_reduce(total)
    return torch.distributed.get_backend(), total.item()


@pytest.mark.dist
@pytest.mark.skipif(torch.cuda.is_available(), reason='mends CPU machines')
@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_init_dist__chooses_gloo_without_gpu(launcher):
    port = free_port()
    for result in run_distributed(_init, 2, launcher, port):
        assert result == ('gloo', 3.0)


def _sync_bn(rank, world_size):
    import os
    import tempfile

    from mmengine.model import BaseModel

    class Net(BaseModel):
        def __init__(self):
            super().__init__()
            self.bn = torch.nn.SyncBatchNorm(2)

        def forward(self, inputs=None, data_samples=None, mode='tensor'):
            return self.bn(inputs)

    os.environ['LOCAL_RANK'] = str(rank)
    runner = Runner(
        Net(),
        tempfile.mkdtemp(),
        launcher='none',
        default_scope='mmengine',
    )
    runner._distributed = True
    wrapped = runner.wrap_model(None, Net())
    kinds = [type(m).__name__ for m in wrapped.modules()]
    out = wrapped(inputs=torch.randn(3, 2))
    return kinds, tuple(out.shape)


@pytest.mark.dist
@pytest.mark.skipif(torch.cuda.is_available(), reason='mends CPU machines')
def test_sync_bn__becomes_bn_on_cpu():
    for kinds, shape in run_distributed(_sync_bn, 2):
        assert 'SyncBatchNorm' not in kinds
        assert any('BatchNorm' in kind for kind in kinds)
        assert shape == (3, 2)


# --- hue ----------------------------------------------------------------


def test_adjust_hue__every_factor_works():
    img = np.random.RandomState(0).randint(0, 256, (8, 9, 3), dtype=np.uint8)
    for factor in np.linspace(-0.5, 0.5, 11):
        out = mmcv.adjust_hue(img, float(factor), backend='pillow')
        assert out.shape == img.shape and out.dtype == np.uint8
        np.testing.assert_array_equal(out, hue.shift_hue(img, float(factor)))
    np.testing.assert_array_equal(
        mmcv.adjust_hue(img, 0.0, backend='pillow'), hue.shift_hue(img, 0.0)
    )


def test_adjust_hue__equals_torchvision():
    from PIL import Image
    from torchvision.transforms import functional as F

    img = np.random.RandomState(1).randint(0, 256, (8, 9, 3), dtype=np.uint8)
    for factor in (-0.3, 0.1, 0.5):
        want = F.adjust_hue(Image.fromarray(img[..., ::-1].copy()), factor)
        got = hue.shift_hue(img, factor)[..., ::-1]
        diff = np.abs(np.array(want).astype(int) - got.astype(int))
        assert diff.mean() < 0.5


def test_hue__mended_only_where_it_overflows():
    def good(img, hue_factor, backend=None):
        return img

    def bad(img, hue_factor, backend=None):
        if hue_factor < 0:
            raise OverflowError
        return img

    fine = types.SimpleNamespace(adjust_hue=good)
    hue._mend(fine)
    assert fine.adjust_hue is good
    broken = types.SimpleNamespace(adjust_hue=bad)
    assert hue.needed(broken)
    hue._mend(broken)
    img = np.full((2, 2, 3), (10, 20, 200), np.uint8)
    out = broken.adjust_hue(img, -0.25, 'pillow')
    np.testing.assert_array_equal(out, hue.shift_hue(img, -0.25))
    assert (out != img).any()


# --- packages -----------------------------------------------------------


def test_packages__look_up_without_pkg_resources(tmp_path):
    code = (
        'import sys\n'
        'class Block:\n'
        '    def find_spec(self, name, path=None, target=None):\n'
        '        if name.split(".")[0] == "pkg_resources":\n'
        '            raise ModuleNotFoundError(name, name=name)\n'
        'import importlib.util as u\n'
        'real = u.find_spec\n'
        'u.find_spec = lambda n, p=None: (None if n == "pkg_resources" '
        'else real(n, p))\n'
        'sys.meta_path.insert(0, Block())\n'
        'import mmdense\n'
        'from mmengine.utils import is_installed, get_installed_path\n'
        'from mmengine.config import Config\n'
        'print(is_installed("mmpretrain"), is_installed("nothing"), '
        'get_installed_path("mmpretrain").endswith("mmpretrain"))\n'
        'import tempfile, os\n'
        'p = os.path.join(tempfile.mkdtemp(), "c.py")\n'
        'open(p, "w").write("_base_ = '
        "'mmpretrain::_base_/default_runtime.py'\\n\")\n"
        'print(Config.fromfile(p).log_level)\n'
    )
    assert _python(code).split('\n') == ['True False True', 'INFO']


def test_packages__installed_path_of_distribution_name():
    assert packages.get_installed_path('mmpretrain').endswith('mmpretrain')
    with pytest.raises(ModuleNotFoundError, match='no-such-package'):
        packages.get_installed_path('no-such-package')


def test_packages__broken_transformers_is_left_out(tmp_path):
    folder = tmp_path / 'transformers'
    folder.mkdir()
    (folder / '__init__.py').write_text('__version__ = "5.0.0"\n')
    (folder / 'modeling_utils.py').write_text('class PreTrainedModel: ...\n')
    info = tmp_path / 'transformers-5.0.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: transformers\nVersion: 5.0.0\n'
    )
    code = (
        # torch 2.1 looks into transformers while it is imported
        'import torch._dynamo\n'
        f'import sys; sys.path.insert(0, {str(tmp_path)!r})\n'
        'import mmdense\n'
        'import mmpretrain.models\n'
        'from mmpretrain.utils.dependency import WITH_MULTIMODAL\n'
        'print(WITH_MULTIMODAL)'
    )
    assert _python(code) == 'False'


def test_packages__working_transformers_is_kept(tmp_path, monkeypatch):
    folder = tmp_path / 'transformers'
    folder.mkdir()
    (folder / '__init__.py').write_text('')
    monkeypatch.syspath_prepend(str(tmp_path))
    (folder / 'modeling_utils.py').write_text('import GenerationMixin\n')
    assert not packages.transformers_breaks_mmpretrain()
    (folder / 'modeling_utils.py').write_text('')
    assert packages.transformers_breaks_mmpretrain()


def test_tests__are_no_package():
    """mmsegmentation installs a top-level package called ``tests``."""
    assert not (ROOT / 'tests' / '__init__.py').exists()
    assert not list((ROOT / 'tests').rglob('__init__.py'))


# --- machinery ----------------------------------------------------------


def test_when_imported__before_and_after(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'late_module_x.py').write_text('value = 1\n')
    seen = []
    hooks_on_import.when_imported(
        'late_module_x', lambda m: seen.append(m.value)
    )
    assert seen == []
    import late_module_x  # noqa: F401

    assert seen == [1]
    hooks_on_import.when_imported(
        'late_module_x', lambda m: seen.append(m.value + 1)
    )
    assert seen == [1, 2]


def test_checkpoint_loading__left_alone_when_upstream_mends_it():
    def load_from_local(filename, map_location):
        return torch.load(filename, map_location, weights_only=True)

    loader = types.SimpleNamespace(register_scheme=None)
    mended = types.SimpleNamespace(
        load_from_local=load_from_local, CheckpointLoader=loader
    )
    assert not checkpoint_loading.needed(mended)
    checkpoint_loading._mend(mended)  # would call register_scheme


def test_init_dist__left_alone_when_upstream_mends_it():
    def _init_dist_pytorch(backend, **kwargs):
        return None

    mended = types.SimpleNamespace(_init_dist_pytorch=_init_dist_pytorch)
    cpu_training._mend_init_dist(mended)
    assert mended._init_dist_pytorch is _init_dist_pytorch
