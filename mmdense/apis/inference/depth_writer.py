"""Write the depth of many images, and an index that explains the files."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Set, Union

import numpy as np
from mmengine.logging import print_log

from ...utils.errors import UserValueError
from .depth import DepthInference, DepthInferencer
from .depth_files import (
    METRIC,
    Limits,
    camera_of,
    limits_of,
    paint,
    write_cloud,
    write_depth_png,
    write_npy,
    write_picture,
    written,
)

FORMATS = ('png', 'npy', 'color', 'ply')
# below the folder for results
FOLDERS = ('depth', 'vis', 'ply')
INDEX = 'depth.json'
_PLACES = {
    'png': ('depth', '.png'),
    'npy': ('depth', '.npy'),
    'color': ('vis', '.png'),
    'ply': ('ply', '.ply'),
}
# at most this share of the time goes into rewriting the index
_INDEX_SHARE = 0.05


class DepthWriter:
    """Write depth maps, pictures and point clouds below a folder.

    ``depth/NAME.png`` (16 bit) and ``depth/NAME.npy`` hold the depth,
    ``vis/NAME.png`` its colours, ``ply/NAME.ply`` the point cloud.
    ``depth.json`` says of which model they are and, for each, size, unit,
    range and scale. Every file appears as a whole or not at all. What earlier
    calls have written stays in the index, under ``earlier`` if they had
    another model or other settings, until its file is replaced.

    Args:
        out_dir (str): Made if it is not there.
        model (DepthInferencer): Where the depth comes from.
        save (Sequence[str]): Of 'png', 'npy', 'color' and 'ply'. Defaults to
            ('png', 'color').
        scale (float): Stored units a metre in the PNG; 1000 reaches 65.5 m,
            256 reaches 256 m. Defaults to 1000.
        limits (Tuple[float, float], optional): Values at the ends of the
            colours. Defaults to None, percentiles of each image.
        panel (bool): Image and depth side by side, with a legend. Defaults
            to False.
        focal (float, optional): For 'ply': focal length in pixels. Defaults
            to None.
        fov (float, optional): For 'ply', instead: horizontal field of view
            in degrees. Defaults to None.
        resume (bool): Keep what an earlier call with the same settings has
            written. Defaults to False.

    Raises:
        UserValueError: If the settings do not go together, or are not those
            of the results to resume.
    """

    def __init__(
        self,
        out_dir: Union[str, Path],
        model: DepthInferencer,
        save: Sequence[str] = ('png', 'color'),
        scale: float = 1000,
        limits: Limits = None,
        panel: bool = False,
        focal: Optional[float] = None,
        fov: Optional[float] = None,
        resume: bool = False,
    ) -> None:
        unknown = set(save) - set(FORMATS)
        if unknown or not save:
            raise UserValueError(
                f'save={list(save)}: choose from {", ".join(FORMATS)}.'
            )
        if not scale > 0:
            raise UserValueError(f'scale={scale}: give units a metre, above 0')
        if limits is not None and not limits[0] < limits[1]:
            raise UserValueError(
                f'range {limits[0]} to {limits[1]}: give the lower end first.'
            )
        if 'ply' in save:
            if model.kind != METRIC:
                raise UserValueError(
                    'No point cloud of this model: it gives inverse relative '
                    'depth, whose scale and shift nobody knows. Leave out '
                    'ply.'
                )
            camera_of((1, 1), focal, fov)
        self.out_dir = Path(out_dir)
        self.model = model
        self.save = tuple(name for name in FORMATS if name in save)
        self.scale = int(scale) if float(scale).is_integer() else scale
        self.limits = limits
        self.panel = panel
        self._camera = dict(focal=focal, fov=fov)
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._index = self._header()
        self._resume = resume
        self._take_over()

    def _header(self) -> Dict[str, Any]:
        model = self.model
        config = [
            model.cfg.model.to_dict(),
            model.cfg.test_dataloader.to_dict(),
        ]
        digest = hashlib.sha256(repr(config).encode()).hexdigest()[:16]
        made_by = dict(
            config=model.cfg.filename or None,
            config_digest=digest,
            type=model.cfg.model.type,
            **model.settings,
        )
        weights = model.settings['weights']
        if os.path.isfile(weights):
            status = os.stat(weights)
            made_by['weights_bytes'] = status.st_size
            made_by['weights_time'] = int(status.st_mtime)
        output = dict(
            scale=self.scale if model.kind == METRIC else None,
            range=None if self.limits is None else list(self.limits),
            panel=self.panel,
            **self._camera,
        )
        header = dict(
            kind=model.kind,
            unit=model.unit,
            model=made_by,
            output=output,
            images={},
        )
        # tuples become lists, as in the file
        return json.loads(json.dumps(header))

    def _take_over(self) -> None:
        """Continue the index of earlier calls.

        Raises:
            UserValueError: With ``resume``, if the last call had other
                settings, or its index cannot be read.
        """
        path = self.out_dir / INDEX
        if not path.exists():
            return
        try:
            past = json.loads(path.read_text(encoding='utf-8'))
            groups = [past, *past.pop('earlier', [])]
            for group in groups:
                group['images'] = dict(group['images'])
                group['model'], group['output']
        except (OSError, ValueError, KeyError, TypeError) as error:
            if self._resume:
                raise UserValueError(
                    f'{path} cannot be read ({error!r}), so nothing can be '
                    'resumed. Leave out --resume to predict all again.'
                ) from error
            print_log(
                f'{path} cannot be read ({error!r}) and will be replaced: '
                'what it said of earlier results is lost.',
                logger='current',
                level=30,
            )
            return
        if self._resume:
            self._compare(past)
        earlier = []
        for group in groups:
            if self._settings(group) == self._settings(self._index):
                self._index['images'].update(group['images'])
                if group.get('films'):
                    self._index['films'] = group['films']
            else:
                earlier.append(group)
        if earlier:
            self._index['earlier'] = earlier

    @staticmethod
    def _settings(group: Dict[str, Any]) -> List[Any]:
        return [group[key] for key in ('model', 'output')]

    def _compare(self, past: Dict[str, Any]) -> None:
        for part in ('model', 'output'):
            new, old = self._index[part], past[part]
            for key in sorted(set(new) | set(old)):
                if new.get(key) != old.get(key):
                    raise UserValueError(
                        f'The results in {self.out_dir} were made with '
                        f'{key}={old.get(key)!r}, not {new.get(key)!r}. '
                        'Give another --out-dir, or leave out --resume to '
                        'predict all again.'
                    )

    def _forget(self, name: str, kinds: Sequence[str]) -> None:
        """Take results that have been replaced out of earlier groups."""
        for group in self._index.get('earlier', []):
            entry = group['images'].get(name)
            if entry is None:
                continue
            for kind in kinds:
                entry.pop(kind, None)
            if not set(entry) & set(FORMATS):
                del group['images'][name]
        self._drop_empty()

    def _drop_empty(self) -> None:
        left = [
            group
            for group in self._index.pop('earlier', [])
            if group['images'] or group.get('films')
        ]
        if left:
            self._index['earlier'] = left

    def path(self, name: str, kind: str) -> Path:
        """Where a result goes.

        Args:
            name (str): See :func:`find_images`.
            kind (str): Of :data:`FORMATS`.

        Returns:
            Path: The file.
        """
        folder, suffix = _PLACES[kind]
        return self.out_dir / folder / f'{name}{suffix}'

    def targets(self, name: str) -> List[Path]:
        """Files of an image.

        Args:
            name (str): See :func:`find_images`.

        Returns:
            List[Path]: One for each format.
        """
        return [self.path(name, kind) for kind in self.save]

    def done(
        self,
        path: Union[str, Path],
        name: str,
        save: Optional[Sequence[str]] = None,
    ) -> bool:
        """Whether an earlier call has written all files of an image.

        Args:
            path (str or Path): The image; a later change undoes it.
            name (str): See :func:`find_images`.
            save (Sequence[str], optional): Formats to look for. Defaults to
                None, all that are written.

        Returns:
            bool: True with ``resume`` if so.
        """
        entry = self._index['images'].get(name)
        if not self._resume or entry is None or entry['input'] != str(path):
            return False
        kinds = self._current(entry, path, name)
        return kinds.issuperset(self.save if save is None else save)

    def _current(
        self, entry: Dict[str, Any], path: Union[str, Path], name: str
    ) -> Set[str]:
        """Formats of an entry whose file is there and newer than the image."""
        changed = os.stat(path).st_mtime if os.path.exists(path) else 0
        kinds = set()
        for kind in set(FORMATS) & set(entry):
            target = self.path(name, kind)
            if target.exists() and target.stat().st_mtime >= changed:
                kinds.add(kind)
        return kinds

    def write(
        self,
        found: DepthInference,
        name: str,
        save: Optional[Sequence[str]] = None,
    ) -> Dict[str, Any]:
        """Write the depth of an image.

        Args:
            found (DepthInference): From :meth:`DepthInferencer.predict`.
            name (str): See :func:`find_images`.
            save (Sequence[str], optional): Formats. Defaults to None, those
                of the writer.

        Returns:
            dict: Its entry in the index.
        """
        depth = found.depth
        entry: Dict[str, Any] = dict(
            input=found.name,
            size=list(depth.shape),
            min=float(depth.min()),
            max=float(depth.max()),
        )
        kinds = self.save if save is None else save
        past = self._index['images'].get(name, {})
        if past.get('input') == found.name:
            kept = self._current(past, found.name, name)
            entry.update({kind: past[kind] for kind in kept})
        for kind in kinds:
            path = self.path(name, kind)
            file = path.relative_to(self.out_dir).as_posix()
            more = getattr(self, f'_write_{kind}')(path, found)
            entry[kind] = dict(file=file, **more)
        self._index['images'][name] = entry
        self._forget(name, kinds)
        self._save_now_and_then()
        return entry

    def _write_png(self, path: Path, found: DepthInference) -> Dict[str, Any]:
        meta = write_depth_png(path, found.depth, found.kind, self.scale)
        if meta.get('clipped'):
            print_log(
                f'{found.name}: {meta["clipped"]} of {found.depth.size} '
                f'pixels are farther than {65535 / self.scale:g} m, the most '
                f'that 16 bits hold at scale {self.scale}; stored as that. '
                'Take a smaller scale or npy.',
                logger='current',
                level=30,
            )
        return meta

    def _write_npy(self, path: Path, found: DepthInference) -> Dict[str, Any]:
        write_npy(path, found.depth)
        return dict(kind=found.kind, unit=found.unit)

    def _write_color(
        self, path: Path, found: DepthInference
    ) -> Dict[str, Any]:
        low, high = self.limits or limits_of(found.depth, found.kind)
        picture = paint(
            found.depth, found.kind, (low, high), found.image, self.panel
        )
        write_picture(path, picture)
        return dict(low=low, high=high)

    def _write_ply(self, path: Path, found: DepthInference) -> Dict[str, Any]:
        height, width = found.depth.shape
        camera = camera_of((height, width), **self._camera)
        points = write_cloud(path, found.depth, found.image, camera)
        return dict(points=points, intrinsics=np.asarray(camera).tolist())

    def note(self, name: str, entry: Dict[str, Any]) -> None:
        """Put something else into the index.

        Args:
            name (str): Name of the result.
            entry (dict): What JSON can hold.
        """
        self._index.setdefault('films', {})[name] = entry
        for group in self._index.get('earlier', []):
            group.get('films', {}).pop(name, None)
        self._drop_empty()

    def _save_now_and_then(self) -> None:
        """Save the index, the less often the longer that takes."""
        waited = time.monotonic() - self._saved_at
        if waited * _INDEX_SHARE >= self._cost:
            self.close()

    def close(self) -> Path:
        """Write the index.

        Returns:
            Path: The file.
        """
        start = time.monotonic()
        text = json.dumps(self._index, indent=1)
        path = self.out_dir / INDEX
        written(path, lambda part: _write_text(part, text))
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - start
        return path


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding='utf-8')
