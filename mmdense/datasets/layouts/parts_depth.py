"""Parts of data sets with depth; see :mod:`.parts`."""

from dataclasses import dataclass
from typing import ClassVar, Optional, Tuple

from .parts import LabelPairs, Part, _of

#: Smallest and largest plausible median depth of a room, in metres.
ROOM = (0.6, 15.0)


@dataclass(frozen=True)
class DepthPairs(LabelPairs):
    """An image and a depth map of the same size under the same name.

    Attributes:
        scale (float): Metres per stored unit.
        plausible (Tuple[float, float], optional): Smallest and largest
            plausible median in metres; None if the scale is unknown.
        bits (int): 16, or 8 where maps of 8 bits are read, too.
        inverse (bool): The maps hold inverse depth up to a scale.
        cameras (str): Folder of camera files, '' for none. With them the
            maps are disparities in the coding of Cityscapes.
        camera_suffix (str): End of a camera file's name.
    """

    scale: float = 1e-3
    plausible: Optional[Tuple[float, float]] = None
    bits: int = 16
    inverse: bool = False
    cameras: str = ''
    camera_suffix: str = '_camera.json'

    noun: ClassVar[str] = 'depth map'

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        cameras = (self.cameras,) if self.cameras else ()
        return (self.images, self.labels, *cameras)

    @property
    def values(self) -> str:
        """str: What the maps hold in words."""
        if self.cameras:
            return 'disparity, 16 bits'
        if self.plausible is None:
            return f'{"inverse " * self.inverse}depth of any scale'
        form = '' if self.label_suffix == '.npy' else ', 16 bits'
        unit = 1 / self.scale
        return f'depth{form}, {unit:g} a metre'

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        size = f' of {self.size[1]}x{self.size[0]}' if self.size else ''
        end = f'{self.nested}*'
        lines = [
            (
                f'{self.images}/{end}{self.image_suffix}',
                _of(self.count, f'images{size}'),
            ),
            (
                f'{self.labels}/{end}{self.label_suffix}',
                _of(self.count, f'maps: {self.values}'),
            ),
        ]
        if self.cameras:
            lines.append(
                (
                    f'{self.cameras}/{end}{self.camera_suffix}',
                    _of(self.count, 'camera files'),
                )
            )
        return tuple(lines)


@dataclass(frozen=True)
class DepthList(Part):
    """A list whose lines are image, depth map and focal length.

    Attributes:
        list_file (str): The list.
        image_roots (Tuple[str, ...]): Folders that the first paths may start
            from, the usual one first.
        depth_roots (Tuple[str, ...]): The same of the second paths.
        image_suffixes (Tuple[str, ...]): Endings that images may have
            instead of the listed one.
        count (int, optional): How many lines have a depth map.
        without (int, optional): How many lines have ``None`` instead.
        scale (float): Metres per stored unit.
        plausible (Tuple[float, float], optional): Smallest and largest
            plausible median in metres.
        trees (Tuple[Tuple[str, str], ...]): How the tree draws the files.
        needed (Tuple[str, ...]): Folders that have to be there.
    """

    list_file: str = ''
    image_roots: Tuple[str, ...] = ('',)
    depth_roots: Tuple[str, ...] = ('',)
    image_suffixes: Tuple[str, ...] = ()
    count: Optional[int] = None
    without: Optional[int] = None
    scale: float = 1e-3
    plausible: Optional[Tuple[float, float]] = None
    trees: Tuple[Tuple[str, str], ...] = ()
    needed: Tuple[str, ...] = ()

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        return self.needed

    @property
    def files(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Files that have to be there."""
        return (self.list_file,)

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        text = _of(self.count, 'lines with depth')
        if self.without:
            text += f', {self.without} without'
        return ((self.list_file, text), *self.trees)


@dataclass(frozen=True)
class LabelledMat(Part):
    """The labelled part of NYU Depth V2 and its split, MATLAB files.

    Attributes:
        mat_file (str): Images and depths, MATLAB 7.3 (HDF5).
        split_file (str): Numbers of the images of each part.
        split_key (str): Name of the numbers in it.
        images (int, optional): How many images the first file has.
        count (int, optional): How many the split has.
        plausible (Tuple[float, float], optional): Smallest and largest
            plausible median in metres.
    """

    mat_file: str = ''
    split_file: str = ''
    split_key: str = ''
    images: Optional[int] = None
    count: Optional[int] = None
    plausible: Optional[Tuple[float, float]] = None

    @property
    def files(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Files that have to be there."""
        return (self.mat_file, self.split_file)

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        return (
            (self.mat_file, _of(self.images, 'images with depth')),
            (self.split_file, 'numbers of the images of each part'),
        )


@dataclass(frozen=True)
class ScenePairs(Part):
    """Images and depth files in folders of their own in every scene.

    Attributes:
        root (str): Folder of all.
        scenes (str): Folder in it that has a folder per scene.
        images (str): Folder of a scene's images, with ``{scene}``.
        depths (str): Its depth files, with ``{scene}``, ``{name}`` and
            ``{stem}`` of the image.
        image_suffixes (Tuple[str, ...]): Endings of images.
        count (int, optional): How many images there are.
        coding (str): 'float32' (bare numbers, as many as the image has
            pixels) or 'dpt' (Sintel).
        what (str): Words for the depth files.
    """

    root: str = ''
    scenes: str = ''
    images: str = ''
    depths: str = ''
    image_suffixes: Tuple[str, ...] = ('.png', '.jpg', '.JPG')
    count: Optional[int] = None
    coding: str = 'float32'
    what: str = 'depth'

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        return (self.root,)

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        base = f'{self.root}/' if self.root else ''
        images = self.images.format(scene='<scene>')
        end = self.image_suffixes[-1]
        depths = self.depths.format(scene='<scene>', name=f'*{end}', stem='*')
        return (
            (f'{base}{images}/*{end}', _of(self.count, 'images')),
            (f'{base}{depths}', self.what),
        )


@dataclass(frozen=True)
class TimedPairs(Part):
    """Sequences whose images and depth maps have times (TUM RGB-D).

    Attributes:
        root (str): Folder of the sequences.
        scale (float): Metres per stored unit.
        plausible (Tuple[float, float], optional): Smallest and largest
            plausible median in metres.
    """

    root: str = ''
    scale: float = 1 / 5000
    plausible: Optional[Tuple[float, float]] = None

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        return (self.root,)

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        base = f'{self.root}/' if self.root else ''
        unit = f'{1 / self.scale:g}'
        return (
            (f'{base}<sequence>/rgb.txt', 'times and names of the images'),
            (f'{base}<sequence>/depth.txt', 'times and names of the maps'),
            (f'{base}<sequence>/rgb/*.png', 'images'),
            (f'{base}<sequence>/depth/*.png', f'16 bits, {unit} a metre'),
        )


@dataclass(frozen=True)
class PointList(Part):
    """Images with a pair of points each (Depth in the Wild).

    Attributes:
        list_file (str): Path of an image and its points in turn.
        root (str): Folder that the paths start from.
        pattern (str): How the tree draws an image.
        count (int, optional): How many images are listed.
    """

    list_file: str = ''
    root: str = ''
    pattern: str = '*.thumb'
    count: Optional[int] = None

    @property
    def files(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Files that have to be there."""
        return (self.list_file,)

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        base = f'{self.root}/' if self.root else ''
        return (
            (self.list_file, _of(self.count, 'images, a line each and one')),
            (f'{base}{self.pattern}', 'images of the list'),
        )
