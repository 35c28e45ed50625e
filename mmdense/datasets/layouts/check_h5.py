"""Check HDF5 files with an image and a depth map."""

import numpy as np

from .check_depth import check_maps
from .common import listing_of, present
from .context import Context
from .depth_files import DepthMap, median_of
from .parts import H5Folder


def check_h5(context: Context, part: H5Folder) -> None:
    """Check a folder of HDF5 files.

    Args:
        context (Context): Of this run.
        part (H5Folder): The folder.
    """
    if not present(context, part):
        return
    files = listing_of(context, part, part.folder, ['.h5']).files
    context.count(part, 'files', len(files), part.count, part.folder)
    if not files:
        text = f'There is no *.h5 in {part.folder}.'
        context.say('error', 'empty', part, part.folder, text)
        return
    try:
        import h5py  # noqa: F401
    except ImportError:
        context.say(
            'warning',
            'not opened',
            part,
            part.folder,
            'h5py is not installed: no file was opened.',
            "pip install 'mmdense[depth]'",
        )
        return
    chosen = context.pick(list(files))
    maps = context.run(part, _read, [files[n] for n in chosen])
    found = {f'{n}.h5': one for n, one in zip(chosen, maps)}
    broken = [f'{n}: {one.error}' for n, one in found.items() if one.error]
    if broken:
        context.say(
            'error',
            'broken file',
            part,
            part.folder,
            f'{len(broken):,} of {len(chosen):,} opened files do not hold an '
            'image and a depth map.',
            'Fetch them again.',
            broken,
        )
    good = {name: one for name, one in found.items() if not one.error}
    check_maps(context, part, part.folder, good)


def _read(path: str) -> DepthMap:
    """The depth of a file, with an error if there is none to read."""
    import h5py

    try:
        with h5py.File(path, 'r') as file:
            if 'rgb' not in file or 'depth' not in file:
                return DepthMap(
                    f'holds {sorted(file)} instead of rgb and depth'
                )
            for key in ('rgb', 'depth'):
                kind = getattr(file[key], 'dtype', np.dtype(object)).kind
                if kind not in 'iuf':
                    return DepthMap(f'{key} is no array of numbers')
            rgb = np.asarray(file['rgb'][()])
            depth = np.asarray(file['depth'][()])
    except Exception as error:  # the library raises whatever it meets
        return DepthMap(f'cannot be read ({error})')
    if depth.ndim != 2:
        return DepthMap(f'depth {depth.shape}')
    if rgb.dtype != 'uint8' or rgb.shape != (3, *depth.shape):
        return DepthMap(f'rgb {rgb.shape} {rgb.dtype}, depth {depth.shape}')
    rows, cols = depth.shape
    return DepthMap(size=(rows, cols), median=median_of(depth))
