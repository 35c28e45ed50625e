"""Check a data set against its layout."""

import difflib
import os.path as osp
from dataclasses import replace
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Union

from ...utils.errors import UserValueError
from .check_coco import check_coco
from .check_depth import check_depth_list, check_depth_pairs
from .check_h5 import check_h5
from .check_images import check_images, check_pairs
from .check_mat import check_labelled_mat
from .check_scenes import check_points, check_scenes, check_timed
from .check_voc import check_voc
from .context import Context
from .parts import (
    TASKS,
    CocoFile,
    H5Folder,
    ImageFolder,
    LabelPairs,
    Layout,
    VocList,
)
from .parts_depth import (
    DepthList,
    DepthPairs,
    LabelledMat,
    PointList,
    ScenePairs,
    TimedPairs,
)
from .render import how_to_get
from .report import Finding, Report
from .scan import archives_near, better_roots
from .sets_coco import COCO, COCO_STUFF
from .sets_depth import (
    CITYSCAPES_DEPTH,
    KITTI,
    NYU,
    NYU_H5,
    NYU_MAT,
    ROOMS,
)
from .sets_images import FOLDER, IMAGENET
from .sets_mixtures import MIX3, MIX10, ZERO_SHOT
from .sets_scenes import ADE20K, CITYSCAPES
from .sets_voc import PASCAL_CONTEXT, VOC0712, VOC2012_AUG

LAYOUTS: Dict[str, Layout] = {
    layout.name: layout
    for layout in (
        *(IMAGENET, COCO, COCO_STUFF, ADE20K, CITYSCAPES, VOC2012_AUG),
        *(PASCAL_CONTEXT, VOC0712, NYU, NYU_MAT, NYU_H5, KITTI),
        *(CITYSCAPES_DEPTH, MIX3, MIX10, ZERO_SHOT, ROOMS, FOLDER),
    )
}
CHECKS: Dict[type, Callable[[Context, Any], None]] = {
    CocoFile: check_coco,
    DepthList: check_depth_list,
    DepthPairs: check_depth_pairs,
    H5Folder: check_h5,
    ImageFolder: check_images,
    LabelPairs: check_pairs,
    LabelledMat: check_labelled_mat,
    PointList: check_points,
    ScenePairs: check_scenes,
    TimedPairs: check_timed,
    VocList: check_voc,
}
SEGMENTATION = 'segmentation'
DEPTH = 'depth'


def get_layout(name: str) -> Layout:
    """The layout of a data set.

    Args:
        name (str): Name of a data set, in lower or upper case.

    Returns:
        Layout: How it should lie on the disk; for 'segmentation' own images
        and label maps in the folders ``images`` and ``annotations``, for
        'depth' own images and maps in millimetres in ``images`` and
        ``depth``.

    Raises:
        UserValueError: If there is none; names near ones.
    """
    if name.lower() in LAYOUTS:
        return LAYOUTS[name.lower()]
    if name.lower() == SEGMENTATION:
        return segmentation_layout('images', 'annotations')
    if name.lower() == DEPTH:
        return depth_layout('images', 'depth')
    names = [*LAYOUTS, SEGMENTATION, DEPTH]
    near = difflib.get_close_matches(name.lower(), names, 3, 0.4)
    hint = f' Nearest: {", ".join(near)}.' if near else ''
    raise UserValueError(
        f'There is no data set {name!r}.{hint} All: {", ".join(names)}.'
    )


def segmentation_layout(
    images: str,
    labels: str,
    image_suffix: str = '.jpg',
    label_suffix: str = '.png',
    num_classes: int = 256,
    ignore: Optional[int] = 255,
    list_file: str = '',
) -> Layout:
    """Layout of own images and label maps, as ``BaseSegDataset`` reads them.

    Args:
        images (str): Folder of the images, relative to the root.
        labels (str): Folder of the label maps, relative to the root.
        image_suffix (str): End of an image's name. Defaults to '.jpg'.
        label_suffix (str): End of a label map's name. Defaults to '.png'.
        num_classes (int): Values 0 to ``num_classes - 1`` are allowed.
            Defaults to 256.
        ignore (int, optional): Value that is allowed besides. Defaults to
            255.
        list_file (str): List of the names that count, '' for all. Defaults
            to ''.

    Returns:
        Layout: With one part, ``pairs``, of the split 'all'.

    Raises:
        UserValueError: If there is no class, or a suffix is empty.
    """
    if num_classes < 1:
        raise UserValueError(
            f'{num_classes} classes: label maps need at least 1.'
        )
    _need_suffixes(image_suffix, label_suffix, 'label maps')
    part = LabelPairs(
        key='pairs',
        split='all',
        tasks=('segmentation',),
        images=images,
        labels=labels,
        image_suffix=image_suffix,
        label_suffix=label_suffix,
        classes=(0, num_classes - 1),
        ignore=ignore,
        list_file=list_file,
    )
    title = 'Own images and label maps'
    return Layout(SEGMENTATION, title, '.', (part,), access='your own data')


def depth_layout(
    images: str,
    depths: str,
    image_suffix: str = '.jpg',
    depth_suffix: str = '.png',
    scale: float = 1e-3,
    list_file: str = '',
) -> Layout:
    """Layout of own images and depth maps, as ``DepthFolder`` reads them.

    Args:
        images (str): Folder of the images, relative to the root.
        depths (str): Folder of the depth maps, relative to the root.
        image_suffix (str): End of an image's name. Defaults to '.jpg'.
        depth_suffix (str): End of a depth map's name. Defaults to '.png'.
        scale (float): Metres per stored unit; 0 if it is unknown, when maps
            of 8 bits will do, too. Defaults to 1e-3.
        list_file (str): List of the names that count, '' for all. Defaults
            to ''.

    Returns:
        Layout: With one part, ``pairs``, of the split 'all'.

    Raises:
        UserValueError: If the scale is negative or a suffix is empty.
    """
    if not 0 <= scale < float('inf'):
        raise UserValueError(
            f'--scale {scale:g}: give metres per stored unit, or 0 if they '
            'are unknown.'
        )
    _need_suffixes(image_suffix, depth_suffix, 'depth maps')
    part = DepthPairs(
        key='pairs',
        split='all',
        tasks=('depth',),
        images=images,
        labels=depths,
        image_suffix=image_suffix,
        label_suffix=depth_suffix,
        list_file=list_file,
        scale=scale or 1.0,
        plausible=(0.1, 200.0) if scale else None,
        bits=16 if scale else 8,
    )
    title = 'Own images and depth maps'
    return Layout(DEPTH, title, '.', (part,), access='your own data')


def _need_suffixes(image: str, label: str, what: str) -> None:
    if not image or not label:
        raise UserValueError(
            f'The suffixes of images and {what} are the ends of their names '
            'and may not be empty, as in .jpg and .png.'
        )


def _select(
    layout: Layout,
    splits: Optional[Sequence[str]],
    tasks: Optional[Sequence[str]],
) -> Layout:
    """The layout with the parts of some splits and tasks alone."""
    for given, allowed, what in (
        (splits, layout.splits, 'split'),
        (tasks, layout.tasks, 'task'),
    ):
        unknown = [name for name in given or () if name not in allowed]
        if unknown:
            raise UserValueError(
                f'{layout.name} has no {what} {unknown[0]!r}, choose from '
                f'{", ".join(allowed)}.'
            )
    parts = tuple(
        part
        for part in layout.parts
        if (not splits or part.split in splits)
        and (not tasks or set(part.tasks) & set(tasks))
    )
    if not parts:
        raise UserValueError(
            f'{layout.name}: no part of split {", ".join(splits or ())} is '
            f'for {", ".join(tasks or ())}.'
        )
    return replace(layout, parts=parts)


def check_dataset(
    dataset: Union[str, Layout],
    root: str = '',
    splits: Optional[Sequence[str]] = None,
    tasks: Optional[Sequence[str]] = None,
    counts: Union[str, Mapping[str, int]] = 'published',
    sample: Optional[int] = 200,
    workers: int = 4,
    progress: bool = False,
) -> Report:
    """Check a data set. Nothing is written below its root.

    Args:
        dataset (str or Layout): Name of a data set, or a layout.
        root (str): Its folder, '' for where the configs look for it.
            Defaults to ''.
        splits (Sequence[str], optional): Splits to check. Defaults to None,
            all.
        tasks (Sequence[str], optional): Check what these tasks need, of
            'pretraining', 'segmentation', 'detection' and 'depth'. Defaults
            to None, all.
        counts (str or Mapping[str, int]): 'published', 'any' (a part of the
            data set will do), or own numbers by 'part.what', as in
            ``Report.counts``. Numbers of categories are compared in any
            case. Defaults to 'published'.
        sample (int, optional): Files to open per part, evenly spaced; None
            for all. Defaults to 200.
        workers (int): Threads that open files. Defaults to 4.
        progress (bool): Write progress to stderr. Defaults to False.

    Returns:
        Report: What was found.

    Raises:
        UserValueError: If the data set, a split or a task is unknown.
    """
    layout = get_layout(dataset) if isinstance(dataset, str) else dataset
    root = root or layout.root
    layout = _select(layout, splits, tasks)
    tasks = tuple(t for t in TASKS if t in (tasks or layout.tasks))
    report = Report(layout.name, root, layout.splits, tasks)
    context = Context(
        root, layout, report, counts, sample, max(1, workers), progress
    )
    problem = _wrong_root(root, layout)
    if problem is not None:
        report.findings.append(problem)
        return report
    for part in layout.parts:
        CHECKS[type(part)](context, part)
    unique = {(f.code, f.where, f.text): f for f in reversed(report.findings)}
    report.findings[:] = list(unique.values())[::-1]
    return report


def _wrong_root(root: str, layout: Layout) -> Optional[Finding]:
    """Why this cannot be the root, None if it can."""
    how = how_to_get(layout)
    if not osp.isdir(root):
        text = f'There is no folder {root}.'
        if osp.isfile(root):
            text = f'{root} is a file; unpack it and give the folder.'
        return Finding('error', 'no root', '', root, text, how)
    paths = sorted(
        {
            path
            for part in layout.parts
            for path in (*part.folders, *part.files)
        }
    )
    if any(not p or osp.exists(osp.join(root, p)) for p in paths):
        return None
    better = better_roots(root, paths)
    if better:
        base = osp.abspath(root)
        inside = better[0].startswith(base.rstrip('/') + '/')
        side = 'above' if inside else 'below'
        return Finding(
            'error',
            'wrong root',
            '',
            root,
            f'{root} is not the root of {layout.name} but a folder {side} '
            f'it: {", ".join(paths[:3])} lie in {better[0]}.',
            f'Give {better[0]} to the checker. The configs look for it at '
            f'{layout.root} (a link there will do).',
        )
    packed = archives_near(root, '')
    if packed:
        return Finding(
            'error',
            'not unpacked',
            '',
            root,
            f'There is no {", ".join(paths[:3])} in {root}, but packed files '
            'that may hold them: unpack them.',
            how,
            tuple(packed[:5]),
        )
    return None
