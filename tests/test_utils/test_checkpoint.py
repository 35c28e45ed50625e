"""Safe loading: what is read, what is refused, and what the user is told."""

import argparse
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

import mmdense  # noqa: F401
from mmdense.utils import checkpoint as module
from mmdense.utils.checkpoint import (
    CheckpointError,
    UnsafeCheckpointError,
    load_checkpoint_file,
    scan_globals,
)


class Attack:
    """Runs code when unpickled."""

    def __reduce__(self):
        return (eval, ("__import__('os').environ.update(PWNED='1')",))


def _runner_like():
    history = HistoryBuffer()
    history.update(1.5)
    return {
        'state_dict': {'w': torch.arange(6.0).view(2, 3)},
        'message_hub': {'log_scalars': {'train/loss': history}},
        'meta': {'epoch': 3, 'np': np.float32(2), 'classes': ('a', 'b')},
        'array': np.arange(4),
    }


@pytest.mark.parametrize('zipped', [True, False])
def test_load__runner_checkpoint(tmp_path, zipped):
    path = tmp_path / 'epoch_3.pth'
    torch.save(_runner_like(), path, _use_new_zipfile_serialization=zipped)
    loaded = load_checkpoint_file(path)
    assert torch.equal(loaded['state_dict']['w'], torch.arange(6.0).view(2, 3))
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert history.current() == 1.5 and history.mean() == 1.5
    assert loaded['meta']['np'] == 2
    assert np.array_equal(loaded['array'], np.arange(4))


def test_load__restricted_unpickler_of_old_torch(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_3.pth'
    torch.save(_runner_like(), path)
    monkeypatch.setattr(module, 'allow_mmengine_globals', lambda: False)
    real = torch.load

    def old_load(*args, weights_only=False, **kwargs):
        if weights_only:
            raise pickle.UnpicklingError('HistoryBuffer')
        return real(*args, weights_only=False, **kwargs)

    monkeypatch.setattr(torch, 'load', old_load)
    loaded = load_checkpoint_file(path)
    assert loaded['message_hub']['log_scalars']['train/loss'].current() == 1.5
    torch.save({'x': Attack()}, path)
    with pytest.raises(UnsafeCheckpointError, match='eval'):
        load_checkpoint_file(path)


@pytest.mark.parametrize('zipped', [True, False])
def test_load__unsafe_file_is_refused_and_named(tmp_path, monkeypatch, zipped):
    monkeypatch.delenv('PWNED', raising=False)
    path = tmp_path / 'evil.pth'
    torch.save(
        {'x': torch.ones(2), 'y': Attack()},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(UnsafeCheckpointError) as info:
        load_checkpoint_file(path)
    import os

    assert 'PWNED' not in os.environ
    text = str(info.value)
    assert 'eval' in text and 'evil.pth' in text
    assert '--trust-checkpoint' in text and 'trust=True' in text


def test_load__getattr_is_not_a_way_out(tmp_path):
    class Sneaky:
        def __reduce__(self):
            return (getattr, (HistoryBuffer, '__init__'))

    path = tmp_path / 'sneaky.pth'
    torch.save({'x': Sneaky()}, path)
    with pytest.raises(CheckpointError):
        load_checkpoint_file(path)


def test_load__trusted_by_argument_and_by_variable(tmp_path, monkeypatch):
    path = tmp_path / 'full.pth'
    torch.save({'args': argparse.Namespace(lr=0.1)}, path)
    with pytest.raises(UnsafeCheckpointError, match='argparse.Namespace'):
        load_checkpoint_file(path)
    assert load_checkpoint_file(path, trust=True)['args'].lr == 0.1
    monkeypatch.setenv(module.TRUST_VARIABLE, '1')
    assert load_checkpoint_file(path)['args'].lr == 0.1
    with pytest.raises(UnsafeCheckpointError):
        load_checkpoint_file(path, trust=False)


def test_load__broken_files_say_so(tmp_path):
    good = tmp_path / 'good.pth'
    torch.save({'w': torch.ones(100)}, good)
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(good.read_bytes()[:600])
    with pytest.raises(CheckpointError, match='cut.pth.*truncated'):
        load_checkpoint_file(cut)
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(CheckpointError, match='empty'):
        load_checkpoint_file(tmp_path / 'empty.pth')
    (tmp_path / 'page.pth').write_text('<html>not found</html>')
    with pytest.raises(CheckpointError, match='page.pth'):
        load_checkpoint_file(tmp_path / 'page.pth')
    with pytest.raises(CheckpointError, match='folder'):
        load_checkpoint_file(tmp_path)
    with pytest.raises(FileNotFoundError, match='good.pth'):
        load_checkpoint_file(tmp_path / 'god.pth')


def test_scan_globals__protocols(tmp_path):
    for protocol in (2, 4):
        path = tmp_path / f'{protocol}.pth'
        torch.save(
            {'a': argparse.Namespace(x=1), 'w': torch.ones(1)},
            path,
            pickle_protocol=protocol,
        )
        assert ('argparse', 'Namespace') in scan_globals(path)


def test_mmengine__reads_through_the_safe_loader(tmp_path):
    path = tmp_path / 'evil.pth'
    torch.save({'y': Attack()}, path)
    with pytest.raises(UnsafeCheckpointError):
        CheckpointLoader.load_checkpoint(str(path))
    torch.save(_runner_like(), path)
    loaded = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert loaded['meta']['epoch'] == 3


@pytest.fixture
def server(tmp_path):
    """Address of an HTTP server on this machine that serves a folder."""
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    folder = tmp_path / 'served'
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    httpd = http.server.HTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f'http://127.0.0.1:{httpd.server_port}'
    httpd.shutdown()


def test_local_file__is_fetched_once(server, tmp_path):
    folder, address = server
    torch.save({'w': torch.ones(3)}, folder / 'w.pth')
    cache = str(tmp_path / 'cache')
    path = module.local_file(f'{address}/w.pth?x=1', cache, progress=False)
    assert load_checkpoint_file(path)['w'].sum() == 3
    (folder / 'w.pth').unlink()
    again = module.local_file(f'{address}/w.pth', cache, progress=False)
    assert again == path
    assert module.local_file('some/file.pth') == 'some/file.pth'


def test_local_file__unreachable_address_is_explained(server, tmp_path):
    _, address = server
    with pytest.raises(CheckpointError, match='cannot be fetched.*404'):
        module.local_file(f'{address}/none.pth', str(tmp_path / 'cache'))
    assert not list((tmp_path / 'cache').glob('none.pth*'))


def test_mmengine__fetches_through_the_safe_loader(server, monkeypatch):
    folder, address = server
    monkeypatch.setenv('TORCH_HOME', str(folder.parent / 'home'))
    torch.save({'y': Attack()}, folder / 'evil.pth')
    with pytest.raises(UnsafeCheckpointError):
        CheckpointLoader.load_checkpoint(f'{address}/evil.pth')
    torch.save(_runner_like(), folder / 'good.pth')
    loaded = CheckpointLoader.load_checkpoint(f'{address}/good.pth')
    assert loaded['meta']['epoch'] == 3
