"""Test sets of zero-shot transfer: ETH3D, Sintel, TUM RGB-D."""

import os.path as osp
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine import fileio, list_from_file

from mmdense.registry import DATASETS
from mmdense.utils.errors import UserValueError

from .base import DepthDataset
from .errors import DepthFileError, MissingDepthError


class _SceneDataset(DepthDataset):
    """Pairs of files in a folder per scene."""

    #: a folder that every scene has, and what is in it
    MARK = ''
    LAYOUT = ''

    def __init__(
        self,
        data_root: str,
        scenes: Optional[Sequence[str]] = None,
        **kwargs: Any,
    ) -> None:
        self.scenes = None if scenes is None else tuple(scenes)
        super().__init__(data_root=data_root, **kwargs)

    def scene_names(self, folder: str) -> List[str]:
        """Scenes to read.

        Args:
            folder (str): Where they are.

        Returns:
            List[str]: ``scenes``, or all folders here, by name.

        Raises:
            MissingDepthError: If the folder is missing or empty.
        """
        if not fileio.isdir(folder, self.backend_args):
            raise MissingDepthError(
                f'{folder}: no such folder; data_root has to contain '
                f'{self.LAYOUT}'
            )
        if self.scenes is not None:
            return list(self.scenes)
        names = fileio.list_dir_or_file(
            folder, list_file=False, backend_args=self.backend_args
        )
        return sorted(names)

    def files(self, folder: str, suffixes: Tuple[str, ...]) -> List[str]:
        """Files of a folder.

        Args:
            folder (str): The folder.
            suffixes (Tuple[str, ...]): Wanted suffixes.

        Returns:
            List[str]: Names, sorted; empty if the folder is missing.
        """
        if not fileio.isdir(folder, self.backend_args):
            return []
        found = fileio.list_dir_or_file(
            folder,
            list_dir=False,
            suffix=suffixes,
            backend_args=self.backend_args,
        )
        return sorted(found)

    def pairs(
        self, folder: str, scenes: List[str], images: str, depths: str
    ) -> List[Dict[str, Any]]:
        """Images and depth maps of equal stem.

        Args:
            folder (str): Folder of the scenes.
            scenes (List[str]): Their names.
            images (str): Pattern of the folder of images with ``{scene}``.
            depths (str): Pattern of depth files with ``{scene}``, ``{name}``
                and ``{stem}``.

        Returns:
            List[dict]: ``img_path``, ``depth_map_path`` and ``scene``.

        Raises:
            MissingDepthError: If there is no image.
            DepthFileError: If none has depth, or with ``strict`` one has not.
        """
        data: List[Dict[str, Any]] = []
        lacking: Dict[int, str] = {}
        for scene in scenes:
            place = osp.join(folder, images.format(scene=scene))
            for name in self.files(place, ('.png', '.jpg', '.JPG')):
                stem = osp.splitext(name)[0]
                depth = osp.join(
                    folder, depths.format(scene=scene, name=name, stem=stem)
                )
                if not fileio.exists(depth, self.backend_args):
                    lacking[len(data)] = depth
                data.append(
                    dict(
                        img_path=osp.join(place, name),
                        depth_map_path=depth,
                        scene=scene,
                    )
                )
        if not data:
            raise MissingDepthError(
                f'{folder}: no images; data_root has to contain {self.LAYOUT}'
            )
        data = self._usable(data, lacking, 'no depth map (check data_root)')
        self._warn_count(len(data), 'test', folder)
        return data


@DATASETS.register_module()
class ETH3DDepth(_SceneDataset):
    """ETH3D, high-resolution multi-view training scenes.

    .. code-block:: none

        data_root/<scene>/images/dslr_images/DSC_0001.JPG
        data_root/<scene>/ground_truth_depth/dslr_images/DSC_0001.JPG

    The depth files are raw floats of the size of the (distorted) image under
    the name of the image; read them with ``mmdense.LoadETH3DDepth``.

    Sources: [0] Schoeps et al., A Multi-View Stereo Benchmark, 2017.

    Args:
        data_root (str): Folder of the scenes. Defaults to 'data/eth3d'.
        scenes (Sequence[str], optional): Scenes to take. None for all
            (published: 13 with 454 images). Defaults to None.
        **kwargs (Any): See ``DepthDataset``.
    """

    NAME = 'eth3d'
    EXPECTED = {'test': 454}
    LAYOUT = (
        '<scene>/images/dslr_images/*.JPG and '
        '<scene>/ground_truth_depth/dslr_images/*.JPG'
    )

    def __init__(self, data_root: str = 'data/eth3d', **kwargs: Any) -> None:
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Pairs of image and depth.

        Returns:
            List[dict]: ``img_path``, ``depth_map_path`` and ``scene``.
        """
        root = str(self.data_root)
        return self.pairs(
            root,
            self.scene_names(root),
            '{scene}/images/dslr_images',
            '{scene}/ground_truth_depth/dslr_images/{name}',
        )


@DATASETS.register_module()
class SintelDepth(_SceneDataset):
    """MPI Sintel, the training scenes with their depth.

    .. code-block:: none

        data_root/training/final/<scene>/frame_0001.png
        data_root/training/depth/<scene>/frame_0001.dpt

    Read depth with ``mmdense.LoadSintelDepth``.

    Sources: [0] Butler et al., A Naturalistic Open Source Movie, 2012.

    Args:
        data_root (str): Folder with ``training``. Defaults to
            'data/sintel'.
        render (str): 'final' or 'clean', the pass. Defaults to 'final'.
        scenes (Sequence[str], optional): Scenes to take. None for all
            (published: 23 with 1,064 frames). Defaults to None.
        **kwargs (Any): See ``DepthDataset``.
    """

    NAME = 'sintel'
    EXPECTED = {'test': 1064}
    LAYOUT = 'training/final/<scene>/*.png and training/depth/<scene>/*.dpt'

    def __init__(
        self,
        data_root: str = 'data/sintel',
        render: str = 'final',
        **kwargs: Any,
    ) -> None:
        if render not in ('final', 'clean'):
            raise UserValueError(
                f"SintelDepth: render={render!r}, choose 'final' or 'clean'"
            )
        self.render = render
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Pairs of image and depth.

        Returns:
            List[dict]: ``img_path``, ``depth_map_path`` and ``scene``.
        """
        root = osp.join(str(self.data_root), 'training')
        return self.pairs(
            root,
            self.scene_names(osp.join(root, self.render)),
            f'{self.render}/{{scene}}',
            'depth/{scene}/{stem}.dpt',
        )


@DATASETS.register_module()
class TUMDepth(_SceneDataset):
    """TUM RGB-D sequences.

    .. code-block:: none

        data_root/<sequence>/rgb.txt, depth.txt      time file, per line
        data_root/<sequence>/rgb/*.png
        data_root/<sequence>/depth/*.png             16-bit, 5000 a metre
        data_root/<sequence>/associate.txt           optional: time image
                                                     time depth

    Images and depth were not taken at the same time. Without
    ``associate.txt`` the pairs nearest in time come first, each file is used
    once, and none is further apart than ``max_difference``.

    Sources: [0] Sturm et al., A Benchmark for the Evaluation of RGB-D SLAM
    Systems, 2012.

    Args:
        data_root (str): Folder of the sequences. Defaults to 'data/tum'.
        scenes (Sequence[str], optional): Sequences to take; which ones a
            paper takes ("dynamic" ones, for MiDaS and DPT) is a choice.
            None for all that are here. Defaults to None.
        max_difference (float): In seconds. Defaults to 0.02.
        **kwargs (Any): See ``DepthDataset``.
    """

    NAME = 'tum'
    PLAUSIBLE_RANGE = (0.3, 12.0)
    LAYOUT = '<sequence>/rgb.txt, depth.txt, rgb/*.png and depth/*.png'

    def __init__(
        self,
        data_root: str = 'data/tum',
        max_difference: float = 0.02,
        **kwargs: Any,
    ) -> None:
        self.max_difference = max_difference
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Pairs of image and depth.

        Returns:
            List[dict]: ``img_path``, ``depth_map_path`` and ``scene``.

        Raises:
            MissingDepthError: If lists are missing, or give no pair.
            DepthFileError: If a line of a list is malformed.
        """
        root = str(self.data_root)
        data = []
        for scene in self.scene_names(root):
            folder = osp.join(root, scene)
            for image, depth in self._associated(folder):
                data.append(
                    dict(
                        img_path=osp.join(folder, image),
                        depth_map_path=osp.join(folder, depth),
                        scene=scene,
                    )
                )
        if not data:
            raise MissingDepthError(
                f'{root}: no pair of image and depth; data_root has to '
                f'contain {self.LAYOUT}'
            )
        return data

    def _associated(self, folder: str) -> List[Tuple[str, str]]:
        listed = osp.join(folder, 'associate.txt')
        if fileio.exists(listed, self.backend_args):
            return [(words[1], words[3]) for words in self._lines(listed, 4)]
        images, depths = (
            [
                (_seconds(words[0], name), words[1])
                for words in self._lines(name, 2)
            ]
            for name in (
                osp.join(folder, 'rgb.txt'),
                osp.join(folder, 'depth.txt'),
            )
        )
        return match_times(images, depths, self.max_difference)

    def _lines(self, path: str, count: int) -> List[List[str]]:
        if not fileio.exists(path, self.backend_args):
            raise MissingDepthError(
                f'{path}: no such list; data_root has to contain {self.LAYOUT}'
            )
        rows = []
        lines = list_from_file(path, backend_args=self.backend_args)
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith('#'):
                continue
            if len(words) != count:
                raise DepthFileError(
                    f'{path}, line {number}: expected {count} words (time '
                    f'and file), got {line!r}'
                )
            rows.append(words)
        return rows


def _seconds(word: str, path: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise DepthFileError(f'{path}: {word!r} is no time') from None


def match_times(
    first: Sequence[Tuple[float, str]],
    second: Sequence[Tuple[float, str]],
    max_difference: float,
) -> List[Tuple[str, str]]:
    """Pairs of files that are near in time, the nearest first.

    Args:
        first (Sequence[Tuple[float, str]]): Seconds and name.
        second (Sequence[Tuple[float, str]]): The same.
        max_difference (float): In seconds, excluded.

    Returns:
        List[Tuple[str, str]]: Names, by the time of the first; every file at
        most once.
    """
    first, second = sorted(first), sorted(second)
    near, start = [], 0
    for i, (time, _) in enumerate(first):
        while (
            start < len(second) and second[start][0] <= time - max_difference
        ):
            start += 1
        j = start
        while j < len(second) and second[j][0] < time + max_difference:
            near.append((abs(second[j][0] - time), i, j))
            j += 1
    found: Dict[int, int] = {}
    taken = set()
    for _, i, j in sorted(near):
        if i not in found and j not in taken:
            found[i] = j
            taken.add(j)
    return [(first[i][1], second[j][1]) for i, j in sorted(found.items())]
