"""Find the images for an inference and write what comes out of it."""

import glob
import json
import os
import os.path as osp
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Union

import numpy as np
from PIL import Image

from ...datasets.image_index import IMAGE_EXTENSIONS, FolderListing
from ...utils.errors import UserValueError
from .inferencer import DenseInferencer, Inference

_GLOB = '*?['
# what an overlay may be written as; anything else becomes PNG
_KEPT = ('.jpg', '.jpeg', '.png')
# below the folder for results
RESULTS = ('vis', 'pred')
# a PNG holds so many indexed colours
_MAX_INDEXED = 256


def find_images(
    inputs: Sequence[str],
    out_dir: str = '',
    extensions: Sequence[str] = IMAGE_EXTENSIONS,
    results: Sequence[str] = RESULTS,
) -> Dict[str, str]:
    """Images that paths stand for, and names for their results.

    Args:
        inputs (Sequence[str]): Files, folders (with those in them) and glob
            patterns.
        out_dir (str): Where results go. What folders and patterns find in
            its ``results`` is left out, being those of an earlier call.
            Defaults to ``''``, nowhere.
        extensions (Sequence[str]): Files to take from folders, lower case.
            Defaults to those of images.
        results (Sequence[str]): Folders in ``out_dir`` for results. Defaults
            to ``('vis', 'pred')``.

    Returns:
        Dict[str, str]: Path of each image to a name of its own without
        extension, relative to the folder that holds all inputs.

    Raises:
        UserValueError: If a path leads to no image.
    """
    files: List[str] = []
    for text in inputs:
        path = osp.expanduser(text)
        if osp.isdir(path):
            listing = FolderListing().scan(path, extensions)
            found = _without_results(listing.files, text, out_dir, results)
            if not found:
                others = ', '.join(sorted(listing.others)) or 'nothing'
                raise UserValueError(
                    f'No image in {text}. Extensions looked for: '
                    f'{" ".join(extensions)}; found: {others}.'
                )
            files += found
        elif osp.exists(path):
            files.append(path)
        else:
            found = []
            if any(character in path for character in _GLOB):
                found = sorted(glob.glob(path, recursive=True))
            found = [f for f in found if osp.isfile(f)]
            found = _without_results(found, text, out_dir, results)
            if not found:
                raise UserValueError(
                    f'Nothing at {text!r} (looked from {os.getcwd()}). Give '
                    'an image, a folder or a glob pattern.'
                )
            files += found
    files = list(dict.fromkeys(osp.normpath(f) for f in files))
    if len(inputs) == 1 and osp.isdir(osp.expanduser(inputs[0])):
        root = osp.abspath(osp.expanduser(inputs[0]))
    else:
        root = osp.commonpath([osp.dirname(osp.abspath(f)) for f in files])
    return dict(zip(files, _unique_names(files, root)))


def _without_results(
    files: Sequence[str], text: str, out_dir: str, names: Sequence[str]
) -> List[str]:
    """Files that are no results of an earlier call.

    Raises:
        UserValueError: If all of them are.
    """
    if not out_dir:
        return list(files)
    results = {Path(out_dir).resolve() / name for name in names}
    kept = [
        path
        for path in files
        if results.isdisjoint(Path(path).resolve().parents)
    ]
    if files and not kept:
        raise UserValueError(
            f'All {len(files)} images of {text} lie in '
            f'{" or ".join(names)} of {out_dir}, where results go. Give '
            'another --out-dir.'
        )
    return kept


def check_targets(
    images: Dict[str, str], out_dir: str, save_pred: bool = False
) -> None:
    """Refuse to write a result over one of the inputs.

    Args:
        images (Dict[str, str]): From :func:`find_images`.
        out_dir (str): Where results go.
        save_pred (bool): Predictions too. Defaults to False.

    Raises:
        UserValueError: Names the input.
    """

    def targets(path: str, name: str) -> List[Path]:
        labels = [_labels(out_dir, name)] if save_pred else []
        return [_overlay(out_dir, path, name), *labels]

    refuse_overwriting(images, targets)


def refuse_overwriting(
    images: Dict[str, str], targets: Callable[[str, str], List[Path]]
) -> None:
    """Refuse to write over one of the inputs.

    Args:
        images (Dict[str, str]): From :func:`find_images`.
        targets (Callable[[str, str], List[Path]]): Files that will be
            written for an input and its name.

    Raises:
        UserValueError: Names the input.
    """
    inputs = {}
    for path in images:
        stat = os.stat(path)
        inputs[stat.st_dev, stat.st_ino] = path
    for path, name in images.items():
        for target in filter(osp.exists, targets(path, name)):
            stat = os.stat(target)
            found = inputs.get((stat.st_dev, stat.st_ino))
            if found is not None:
                raise UserValueError(
                    f'The result of {path} would overwrite the input {found} '
                    f'at {target}. Give another --out-dir.'
                )


def _overlay(out_dir: Union[str, Path], path: str, name: str) -> Path:
    suffix = osp.splitext(path)[1].lower()
    suffix = suffix if suffix in _KEPT else '.png'
    return Path(out_dir) / 'vis' / f'{name}{suffix}'


def _labels(out_dir: Union[str, Path], name: str) -> Path:
    return Path(out_dir) / 'pred' / f'{name}.png'


def _unique_names(files: List[str], root: str) -> List[str]:
    """Names without extension; ``x.jpg`` beside ``x.png`` is ``x_png``."""
    taken: Set[str] = set()
    names = []
    for path in files:
        stem, extension = osp.splitext(osp.relpath(osp.abspath(path), root))
        tries = [stem, f'{stem}_{extension[1:]}']
        tries += [f'{tries[-1]}_{number}' for number in range(2, len(files))]
        # some file systems do not tell cases apart
        name = next(t for t in [*tries, path] if t.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names


class InferenceWriter:
    """Write overlays and predictions below a folder.

    ``vis/NAME.jpg`` or ``.png`` are the overlays; ``pred/NAME.png`` the
    labels of a segmentation, indexed PNG whose values are positions in
    ``pred/classes.json``; ``pred/predictions.json`` the objects of a
    detection in COCO's form, whose ``category_id`` are such positions too.

    Args:
        out_dir (str): Made if it is not there.
        model (DenseInferencer): Where the predictions come from.
        save_pred (bool): Write the predictions. Defaults to False.
        opacity (float): Of what is drawn, 0 to 1. Defaults to 0.5.
        score_thr (float): Objects below it are not drawn; the predictions
            have all. Defaults to 0.3.
    """

    def __init__(
        self,
        out_dir: str,
        model: DenseInferencer,
        save_pred: bool = False,
        opacity: float = 0.5,
        score_thr: float = 0.3,
    ) -> None:
        self.out_dir = Path(out_dir)
        self.model = model
        self.save_pred = save_pred
        self.opacity = opacity
        self.score_thr = score_thr
        self._images: List[dict] = []
        self._annotations: List[dict] = []

    def write(self, found: Inference, name: str) -> Path:
        """Write what was found on an image.

        Args:
            found (Inference): From :meth:`DenseInferencer.predict`.
            name (str): See :func:`find_images`.

        Returns:
            Path: The overlay.
        """
        path = _overlay(self.out_dir, found.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = self.model.draw(found, self.opacity, self.score_thr)
        # for JPEG; PNG knows no such thing
        Image.fromarray(drawn).save(path, quality=92)
        if self.save_pred and self.model.task == 'segmentation':
            self._write_labels(found, _labels(self.out_dir, name))
        elif self.save_pred:
            self._keep_objects(found)
        return path

    def _write_labels(self, found: Inference, path: Path) -> None:
        labels = found.prediction.pred_sem_seg.data[0].numpy()
        path.parent.mkdir(parents=True, exist_ok=True)
        palette = self.model.dataset_meta['palette']
        if len(palette) > _MAX_INDEXED:
            Image.fromarray(labels.astype(np.uint16)).save(path)
            return
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette([value for color in palette for value in color])
        image.save(path)

    def _keep_objects(self, found: Inference) -> None:
        height, width = found.image.shape[:2]
        number = len(self._images) + 1
        self._images.append(
            dict(id=number, file_name=found.name, width=width, height=height)
        )
        objects = coco_objects(found.prediction.pred_instances)
        for item in objects:
            item.update(image_id=number, id=len(self._annotations) + 1)
            self._annotations.append(item)

    def close(self) -> Optional[Path]:
        """Write what belongs to all images.

        Returns:
            Path or None: ``classes.json`` or ``predictions.json``; None
            without ``save_pred``.
        """
        if not self.save_pred:
            return None
        folder = self.out_dir / 'pred'
        folder.mkdir(parents=True, exist_ok=True)
        classes = list(self.model.dataset_meta['classes'])
        if self.model.task == 'segmentation':
            path = folder / 'classes.json'
            path.write_text(json.dumps(classes))
            return path
        path = folder / 'predictions.json'
        names = [dict(id=i, name=name) for i, name in enumerate(classes)]
        content = dict(
            images=self._images,
            categories=names,
            annotations=self._annotations,
        )
        path.write_text(json.dumps(content))
        return path


def coco_objects(instances: Any) -> List[Dict[str, Any]]:
    """Objects in the form of COCO's annotations.

    Args:
        instances (InstanceData): ``bboxes`` (N, 4) as x1, y1, x2, y2 in
            pixels, ``labels``, ``scores`` and, optionally, ``masks``
            (N, H, W).

    Returns:
        List[dict]: ``category_id``, ``bbox`` (x, y, width, height), ``area``
        (of the mask if there is one), ``score``, ``iscrowd`` and, with
        masks, ``segmentation`` (compressed run lengths).
    """
    objects = []
    for box, label, score in zip(
        instances.bboxes.tolist(),
        instances.labels.tolist(),
        instances.scores.tolist(),
    ):
        x1, y1, x2, y2 = box
        objects.append(
            dict(
                category_id=label,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1),
                score=score,
                iscrowd=0,
            )
        )
    if 'masks' in instances and objects:
        from mmdet.structures.mask import encode_mask_results

        codes = encode_mask_results(instances.masks.numpy())
        areas = instances.masks.flatten(1).sum(1).tolist()
        for item, code, area in zip(objects, codes, areas):
            counts = code['counts']
            if isinstance(counts, bytes):
                counts = counts.decode()
            item['segmentation'] = dict(size=list(code['size']), counts=counts)
            item['area'] = area
    return objects
