"""Reading checkpoint files safely on every supported torch.

A checkpoint is a pickle, and a pickle can run code. Files are therefore read
with ``weights_only=True``; beyond tensors only the few classes that mmengine
itself writes (:data:`SAFE_GLOBALS`) are allowed.
"""

import difflib
import importlib
import os
import pickle
import pickletools
import tarfile
import types
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import (
    Any,
    BinaryIO,
    Callable,
    Dict,
    List,
    Optional,
    Set,
    Tuple,
    Union,
)
from urllib.parse import urlparse

import torch

from .errors import UserError
from .versions import parse

TRUST_VARIABLE = 'MMDENSE_TRUST_CHECKPOINT'

# What mmengine's runner writes beside tensors: log histories, numpy arrays
# and scalars, and containers of the standard library.
SAFE_GLOBALS: Tuple[Tuple[str, str], ...] = (
    ('mmengine.logging.history_buffer', 'HistoryBuffer'),
    ('numpy', 'dtype'),
    ('numpy', 'ndarray'),
    ('numpy.core.multiarray', '_reconstruct'),
    ('numpy.core.multiarray', 'scalar'),
    ('numpy._core.multiarray', '_reconstruct'),
    ('numpy._core.multiarray', 'scalar'),
    ('_codecs', 'encode'),
    ('collections', 'OrderedDict'),
    ('collections', 'defaultdict'),
    ('collections', 'deque'),
    ('collections', 'Counter'),
    ('__builtin__', 'set'),
    ('__builtin__', 'bytearray'),
    ('builtins', 'set'),
    ('builtins', 'dict'),
    ('builtins', 'list'),
    ('builtins', 'int'),
    ('builtins', 'float'),
    ('builtins', 'bytearray'),
    ('builtins', 'complex'),
)
# A HistoryBuffer pickles references to its own methods through ``getattr``;
# only that use is let through, see :func:`_history_method`.
_GETATTR = {('__builtin__', 'getattr'), ('builtins', 'getattr')}
_TORCH_REBUILD = {
    ('torch._utils', '_rebuild_tensor'),
    ('torch._utils', '_rebuild_tensor_v2'),
    ('torch._utils', '_rebuild_parameter'),
    ('torch._utils', '_rebuild_parameter_with_state'),
    ('torch.nn.parameter', 'Parameter'),
    ('torch._tensor', '_rebuild_from_type_v2'),
    ('torch', 'Tensor'),
    ('torch', 'Size'),
    ('torch', 'device'),
    ('torch.serialization', '_get_layout'),
}


class CheckpointError(UserError, RuntimeError):
    """A checkpoint file that cannot be read; the message says why."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """There is no such file."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint that holds more than data and was not trusted.

    Args:
        path (str): The file.
        names (List[str]): What it would have to execute or construct.
    """

    def __init__(self, path: str, names: List[str]) -> None:
        self.names = names
        super().__init__(
            f'{path} holds objects other than tensors and plain data: '
            f'{", ".join(names)}. Loading them could run code of whoever '
            'made the file. If you trust its origin, pass '
            '--trust-checkpoint to the tool, trust=True in init_cfg, or set '
            f'{TRUST_VARIABLE}=1.'
        )


def _history_method(owner: Any, name: str) -> Any:
    """Stand-in for ``getattr`` that knows public HistoryBuffer methods."""
    history = _resolve(*SAFE_GLOBALS[0])
    if owner is not history or name.startswith('_'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _is_safe(module: str, name: str) -> bool:
    pair = (module, name)
    if pair in SAFE_GLOBALS or pair in _TORCH_REBUILD or pair in _GETATTR:
        return True
    if module == 'numpy.dtypes' and name.endswith('DType'):
        return True
    return module in ('torch', 'torch.storage') and (
        name.endswith('Storage')
        or isinstance(getattr(torch, name, None), torch.dtype)
    )


def _resolve(module: str, name: str) -> Any:
    if module == '__builtin__':
        module = 'builtins'
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None


@lru_cache(maxsize=1)
def allow_mmengine_globals() -> bool:
    """Let ``torch.load(weights_only=True)`` read mmengine checkpoints.

    Returns:
        bool: False where torch has no allow-list that takes names (before
        2.6); there nothing is registered, and :func:`load_checkpoint_file`
        reads through a restricted unpickler.
    """
    if parse(torch.__version__) < (2, 6):
        return False
    add = torch.serialization.add_safe_globals
    objects: List[Any] = [(_history_method, 'builtins.getattr')]
    for module, name in SAFE_GLOBALS:
        found = _resolve(module, name)
        if found is None:
            # written by the other major version of numpy
            other = (
                module.replace('numpy._core', 'numpy.core')
                if '_core' in module
                else module.replace('numpy.core', 'numpy._core')
            )
            found = _resolve(other, name)
        if found is None:
            continue
        if f'{getattr(found, "__module__", "")}.{name}' != f'{module}.{name}':
            objects.append((found, f'{module}.{name}'))
        objects.append(found)
    dtypes = _resolve('numpy', 'dtypes')
    objects += [
        value for key, value in vars(dtypes).items() if key.endswith('DType')
    ]
    add(objects)
    return True


def scan_globals(path: Union[str, Path]) -> List[Tuple[str, str]]:
    """List the importable names a checkpoint refers to, running nothing.

    Args:
        path (str or Path): A torch checkpoint (zip or legacy format).

    Returns:
        List[Tuple[str, str]]: Sorted ``(module, name)`` pairs.
    """
    found: Set[Tuple[str, str]] = set()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith('data.pkl'):
                    with archive.open(member) as stream:
                        found |= _scan_pickle(stream)  # type: ignore[arg-type]
    else:
        with open(path, 'rb') as stream:
            # legacy files are five pickles in a row, then raw storages
            for _ in range(5):
                try:
                    found |= _scan_pickle(stream)
                except ValueError:
                    break
    return sorted(found)


def _scan_pickle(stream: BinaryIO) -> Set[Tuple[str, str]]:
    found: Set[Tuple[str, str]] = set()
    strings: List[str] = []
    memo: Dict[Any, Optional[str]] = {}
    last: Optional[str] = None
    for opcode, arg, _ in pickletools.genops(stream):
        if opcode.name in ('GLOBAL', 'INST'):
            module, name = str(arg).split(' ', 1)
            found.add((module, name))
            last = None
        elif 'UNICODE' in opcode.name or 'STRING' in opcode.name:
            last = str(arg)
            strings.append(last)
        elif opcode.name in ('BINPUT', 'LONG_BINPUT', 'PUT'):
            memo[arg] = last
        elif opcode.name == 'MEMOIZE':
            memo[len(memo)] = last
        elif opcode.name in ('BINGET', 'LONG_BINGET', 'GET'):
            last = memo.get(arg)
            if last is not None:
                strings.append(last)
        elif opcode.name == 'STACK_GLOBAL':
            found.add((strings[-2], strings[-1]))
            last = None
        elif opcode.name not in ('PROTO', 'FRAME'):
            last = None
    return found


class _RestrictedUnpickler(pickle.Unpickler):
    """Unpickler for torch versions whose allow-list is fixed."""

    def find_class(self, module: str, name: str) -> Any:
        if not _is_safe(module, name):
            raise pickle.UnpicklingError(f'{module}.{name} is not allowed')
        if (module, name) in _GETATTR:
            return _history_method
        return super().find_class(module, name)


def _restricted_module() -> types.ModuleType:
    module = types.ModuleType('mmdense_restricted_pickle')

    def load(stream: BinaryIO, **kwargs: Any) -> Any:
        return _RestrictedUnpickler(stream, **kwargs).load()

    module.Unpickler = _RestrictedUnpickler  # type: ignore[attr-defined]
    module.load = load  # type: ignore[attr-defined]
    return module


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder, not a checkpoint file.')
    if not path.is_file():
        near: List[str] = []
        if path.parent.is_dir():
            names = [p.name for p in path.parent.iterdir()]
            near = difflib.get_close_matches(path.name, names, cutoff=0.4)
            hint = f'Nearest names there: {near}.' if near else ''
        else:
            hint = f'The folder {path.parent} does not exist.'
        raise MissingCheckpointError(
            f'No checkpoint at {path}. {hint}'.strip()
        )
    if path.stat().st_size == 0:
        raise CheckpointError(f'{path} is an empty file.')


def local_file(
    name: str, folder: Optional[str] = None, progress: bool = True
) -> str:
    """Path of a checkpoint; an address is fetched once per machine.

    Args:
        name (str): Path, or http(s) address.
        folder (str, optional): Where fetched files are kept. Defaults to
            torch hub's folder for checkpoints.
        progress (bool): Show a progress bar. Defaults to True.

    Returns:
        str: Path of a local file.

    Raises:
        CheckpointError: If the address cannot be read.
    """
    if not name.startswith(('http://', 'https://')):
        return name
    from mmengine.dist import barrier

    folder = folder or os.path.join(torch.hub.get_dir(), 'checkpoints')
    path = os.path.join(folder, os.path.basename(urlparse(name).path))
    try:
        first = os.environ.get('LOCAL_RANK', '0') == '0'
        if first and not os.path.isfile(path):
            os.makedirs(folder, exist_ok=True)
            torch.hub.download_url_to_file(name, path, progress=progress)
    except OSError as error:
        raise CheckpointError(
            f'{name} cannot be fetched: {error}. Download it by other means '
            f'and put it at {path}, or give its path.'
        ) from error
    finally:
        barrier()
    return path


def trusted(trust: Optional[bool] = None) -> bool:
    """``trust`` if given, else what the environment variable says."""
    if trust is not None:
        return trust
    return os.environ.get(TRUST_VARIABLE, '').lower() in ('1', 'true', 'yes')


def load_checkpoint_file(
    path: Union[str, Path],
    map_location: Union[str, torch.device, Callable, None] = 'cpu',
    trust: Optional[bool] = None,
) -> Any:
    """Load a local checkpoint, with data only unless it is trusted.

    Args:
        path (str or Path): Local file.
        map_location: As in ``torch.load``. Defaults to ``'cpu'``.
        trust (bool, optional): Allow arbitrary pickled objects. None reads
            the environment variable ``MMDENSE_TRUST_CHECKPOINT``.

    Returns:
        Any: What the file holds, usually a dict.

    Raises:
        MissingCheckpointError: If there is no such file; names near ones.
        UnsafeCheckpointError: If it holds other objects than data.
        CheckpointError: If it is empty, truncated or no checkpoint.
    """
    path = Path(path).expanduser()
    _check_file(path)
    has_list = allow_mmengine_globals()
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises many types for bad files
        first_error = error
    with open(path, 'rb') as stream:
        head = stream.read(16)
    # a zip archive or a pickle; truncated ones begin so too
    if not head.startswith((b'PK', b'\x80')) and not tarfile.is_tarfile(path):
        raise CheckpointError(
            f'{path} is not a torch checkpoint (it starts with {head!r}).'
        ) from first_error
    try:
        names = scan_globals(path)
    except Exception:
        raise CheckpointError(
            f'{path} cannot be read ({type(first_error).__name__}: '
            f'{first_error}). It is truncated or not a torch checkpoint: '
            f'compare its size ({path.stat().st_size} bytes) with the '
            'source and fetch it again.'
        ) from first_error
    unsafe = [f'{m}.{n}' for m, n in names if not _is_safe(m, n)]
    kwargs: dict = {'map_location': map_location, 'weights_only': False}
    if unsafe and not trusted(trust):
        raise UnsafeCheckpointError(str(path), unsafe) from first_error
    if not unsafe and not has_list:
        kwargs['pickle_module'] = _restricted_module()
    elif not unsafe:
        raise CheckpointError(
            f'{path} cannot be read: {first_error}. It is probably '
            'truncated; fetch or write it again.'
        ) from first_error
    try:
        return torch.load(path, **kwargs)
    except Exception as error:
        raise CheckpointError(
            f'{path} cannot be read: {error}. It is probably truncated or '
            'no torch checkpoint; fetch or write it again.'
        ) from error
