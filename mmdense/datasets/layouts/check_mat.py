"""Check the labelled part of NYU Depth V2, two MATLAB files."""

import math
import os.path as osp
from typing import Any, List

import numpy as np

from .check_depth import check_unit
from .common import present
from .context import Context
from .depth_files import median_of
from .parts_depth import LabelledMat


def check_labelled_mat(context: Context, part: LabelledMat) -> None:
    """Check the labelled part of NYU Depth V2.

    Args:
        context (Context): Of this run.
        part (LabelledMat): Its two files.
    """
    if not present(context, part):
        return
    numbers = _numbers(context, part)
    where = part.mat_file
    try:
        import h5py
    except ImportError:
        context.say(
            'warning',
            'not opened',
            part,
            where,
            'h5py is not installed: the file was not opened.',
            "pip install 'mmdense[depth]'",
        )
        return
    problem, medians, total = '', [], 0
    try:
        with h5py.File(context.path(where), 'r') as file:
            problem = _mat_problem(file)
            if not problem:
                total = len(file['images'])
                known = [n - 1 for n in numbers if 0 < n <= total]
                for index in context.pick(known):
                    depth = np.asarray(file['depths'][index])
                    np.asarray(file['images'][index])
                    medians.append(median_of(depth))
    except Exception as error:  # the library raises whatever it meets
        problem = f'cannot be read ({error})'
    if problem:
        context.say(
            'error',
            'broken file',
            part,
            where,
            f'{osp.basename(where)} {problem}.',
            'Fetch it again.',
        )
        return
    opened = context.report.opened
    opened[part.key] = opened.get(part.key, 0) + len(medians)
    context.count(part, 'images', total, part.images, where)
    beyond = [str(n) for n in numbers if not 0 < n <= total]
    if beyond:
        context.say(
            'error',
            'unknown image',
            part,
            part.split_file,
            f'{len(beyond):,} numbers of {part.split_key} are not those of '
            f'the {total:,} images of {where}.',
            '',
            beyond,
        )
    known_medians = [m for m in medians if math.isfinite(m)]
    check_unit(context, part, where, known_medians)


def _mat_problem(file: Any) -> str:
    """What readers would miss in the file, '' for nothing."""
    for key in ('images', 'depths'):
        if key not in file:
            return f'holds {sorted(file)} instead of images and depths'
    images, depths = file['images'].shape, file['depths'].shape
    # MATLAB keeps columns first: (N, 3, W, H) and (N, W, H)
    if len(images) != 4 or images[1] != 3 or images[:1] + images[2:] != depths:
        return f'holds images {images} and depths {depths}'
    return ''


def _numbers(context: Context, part: LabelledMat) -> List[int]:
    """Numbers of the images of the split, from 1."""
    where = part.split_file
    try:
        from scipy.io import loadmat
    except ImportError:
        context.say(
            'warning',
            'not opened',
            part,
            where,
            'scipy is not installed: the split was not opened.',
            'pip install scipy',
        )
        return []
    try:
        numbers = [
            int(n)
            for n in loadmat(context.path(where))[part.split_key].ravel()
        ]
    except Exception as error:  # scipy raises what it likes
        context.say(
            'error',
            'broken file',
            part,
            where,
            f'{where} gives no {part.split_key} ({error}).',
            'Fetch it again.',
        )
        return []
    context.count(part, 'numbers', len(numbers), part.count, where)
    return numbers
