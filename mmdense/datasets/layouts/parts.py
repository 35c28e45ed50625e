"""What a data set is made of: folders, pairs, annotation files.

Everything here is data. Paths are relative to the root of the data set and
written with ``/``. What a part's files should be like is checked by the
function that :mod:`.checker` keeps for its class.
"""

from dataclasses import dataclass
from typing import ClassVar, Dict, Optional, Tuple

IMAGE_SUFFIXES = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.tif'),
    *('.tiff', '.gif', '.ppm', '.pgm', '.avif'),
)
TASKS = ('pretraining', 'segmentation', 'detection', 'depth')


@dataclass(frozen=True)
class Part:
    """One thing that a data set holds.

    Attributes:
        key (str): Its name in messages and in ``counts`` of the checker.
        split (str): Split that it belongs to.
        tasks (Tuple[str, ...]): Of :data:`TASKS`, what needs it.
        optional (bool): Whether no config reads it: its absence is a note.
        step (str): Name of the :class:`Step` that makes it.
    """

    key: str = ''
    split: str = ''
    tasks: Tuple[str, ...] = ()
    optional: bool = False
    step: str = 'get'

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        return ()

    @property
    def files(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Files that have to be there."""
        return ()

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        return ()


def _of(count: Optional[int], what: str) -> str:
    return what if count is None else f'{count:,} {what}'


@dataclass(frozen=True)
class ImageFolder(Part):
    """Images whose names and folders do not matter.

    Attributes:
        folder (str): Where they are.
        count (int, optional): How many were published.
        classes (int, optional): How many folders they lie in.
        pattern (str): How the tree draws a file.
        flat (bool): Whether readers look into ``folder`` alone.
        suffixes (Tuple[str, ...]): Endings, in lower or upper case.
    """

    folder: str = ''
    count: Optional[int] = None
    classes: Optional[int] = None
    pattern: str = '*.jpg'
    flat: bool = False
    suffixes: Tuple[str, ...] = IMAGE_SUFFIXES

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        return (self.folder,)

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        text = _of(self.count, 'images')
        if self.classes is not None:
            text += f' in {self.classes:,} folders'
        return ((f'{self.folder}/{self.pattern}'.lstrip('/'), text),)


@dataclass(frozen=True)
class LabelPairs(Part):
    """An image and a label map of the same size under the same name.

    Attributes:
        images (str): Folder of the images.
        labels (str): Folder of the label maps.
        image_suffix (str): End of an image's name, its case counts.
        label_suffix (str): End of a label map's name, its case counts.
        count (int, optional): How many pairs were published.
        classes (Tuple[int, int]): Lowest and highest class.
        ignore (int, optional): Value without a class besides.
        list_file (str): File with the names that count, '' for all. Other
            files in the folders are then of no interest.
        size (Tuple[int, int], optional): Height and width of all images.
        source_suffix (str): End of the label maps before a conversion.
        nested (str): Folder pattern below the folders, for the tree.
    """

    images: str = ''
    labels: str = ''
    image_suffix: str = '.jpg'
    label_suffix: str = '.png'
    count: Optional[int] = None
    classes: Tuple[int, int] = (0, 0)
    ignore: Optional[int] = 255
    list_file: str = ''
    size: Optional[Tuple[int, int]] = None
    source_suffix: str = ''
    nested: str = ''

    #: what the maps are called
    noun: ClassVar[str] = 'label map'

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        return (self.images, self.labels)

    @property
    def files(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Files that have to be there."""
        return (self.list_file,) if self.list_file else ()

    @property
    def values(self) -> str:
        """str: The allowed values in words."""
        low, high = self.classes
        extra = '' if self.ignore is None else f' and {self.ignore}'
        return f'{low} to {high}{extra}'

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        what, values = 'label maps', f', values {self.values}'
        size = ''
        if self.size:
            size = f' of {self.size[1]}x{self.size[0]}'
        image = f'{self.images}/{self.nested}*{self.image_suffix}'
        label = f'{self.labels}/{self.nested}*{self.label_suffix}'
        if self.list_file:
            return (
                (self.list_file, _of(self.count, 'names')),
                (image, 'images of the lists'),
                (label, f'{what}{values}'),
            )
        return (
            (image, _of(self.count, f'images{size}')),
            (label, _of(self.count, what) + values),
        )


@dataclass(frozen=True)
class CocoFile(Part):
    """An annotation file in the form of COCO.

    Attributes:
        file (str): The json file.
        images (str): Folder that its file names start from.
        count (int, optional): How many images it lists.
        annotated (int, optional): How many of them have an instance.
        instances (int, optional): How many instances there are.
        categories (int, optional): How many categories.
        masks (bool): Whether every instance has a mask.
    """

    file: str = ''
    images: str = ''
    count: Optional[int] = None
    annotated: Optional[int] = None
    instances: Optional[int] = None
    categories: Optional[int] = None
    masks: bool = True

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        return (self.images,)

    @property
    def files(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Files that have to be there."""
        return (self.file,)

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        text = _of(self.count, 'images')
        if self.annotated is not None:
            text += f', {self.annotated:,} with annotations'
        if self.instances is not None:
            text += f', {self.instances:,} instances'
        if self.categories is not None:
            text += f', {self.categories} categories'
        return ((self.file, text),)


@dataclass(frozen=True)
class VocList(Part):
    """A list of names, each with an image and an XML file of boxes.

    Attributes:
        list_file (str): The list, one name a line.
        images (str): Folder of ``<name>.jpg``.
        boxes (str): Folder of ``<name>.xml``.
        count (int, optional): How many names there are.
        names (Tuple[str, ...]): Known classes.
    """

    list_file: str = ''
    images: str = ''
    boxes: str = ''
    count: Optional[int] = None
    names: Tuple[str, ...] = ()

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        return (self.images, self.boxes)

    @property
    def files(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Files that have to be there."""
        return (self.list_file,)

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        return (
            (self.list_file, _of(self.count, 'names')),
            (f'{self.images}/*.jpg', 'images of the lists'),
            (f'{self.boxes}/*.xml', 'boxes of the lists'),
        )


@dataclass(frozen=True)
class H5Folder(Part):
    """HDF5 files with an image and a depth map each.

    Attributes:
        folder (str): Where they are.
        pattern (str): How the tree draws a file.
        count (int, optional): How many were published.
        plausible (Tuple[float, float], optional): Smallest and largest
            plausible median depth in metres.
    """

    folder: str = ''
    pattern: str = '*.h5'
    count: Optional[int] = None
    plausible: Optional[Tuple[float, float]] = None

    @property
    def folders(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Folders that have to be there."""
        return (self.folder,)

    @property
    def entries(self) -> Tuple[Tuple[str, str], ...]:
        """Tuple[Tuple[str, str], ...]: Lines of the tree: path, what."""
        text = _of(self.count, 'files with rgb and depth')
        return ((f'{self.folder}/{self.pattern}', text),)


@dataclass(frozen=True)
class Step:
    """One step of getting a data set.

    Attributes:
        name (str): Parts name the step that makes them.
        text (str): What to do.
        commands (Tuple[str, ...]): Shell commands, from the repository's
            root. ``$MMSEG`` and ``$MMDET`` are the installed toolboxes.
    """

    name: str
    text: str
    commands: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How a data set lies on the disk.

    Attributes:
        name (str): What the checker calls it.
        title (str): What people call it.
        root (str): Where the configs look for it.
        parts (Tuple[Part, ...]): What it holds.
        page (str): Official page.
        access (str): Whether one has to register, and the size.
        steps (Tuple[Step, ...]): How to get it.
        stock (Tuple[str, ...]): Base configs of mmseg and mmdet that read
            it.
        configs (Tuple[str, ...]): Patterns of the files of
            ``configs/_base_/datasets`` that read it.
        notes (Tuple[str, ...]): What is worth knowing.
    """

    name: str
    title: str
    root: str
    parts: Tuple[Part, ...]
    page: str = ''
    access: str = ''
    steps: Tuple[Step, ...] = ()
    stock: Tuple[str, ...] = ()
    configs: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()

    @property
    def splits(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: Names of the splits, in order."""
        return tuple(dict.fromkeys(part.split for part in self.parts))

    @property
    def tasks(self) -> Tuple[str, ...]:
        """Tuple[str, ...]: What it is used for."""
        used = {task for part in self.parts for task in part.tasks}
        return tuple(task for task in TASKS if task in used)

    @property
    def entries(self) -> Dict[str, str]:
        """Dict[str, str]: Lines of the tree: path, what is there."""
        lines: Dict[str, str] = {}
        for part in self.parts:
            for path, text in part.entries:
                note = ' (optional)' if part.optional else ''
                lines.setdefault(path, text + note)
        return lines

    def step(self, name: str) -> Optional[Step]:
        """The step of a name, None if there is none.

        Args:
            name (str): Name of a step.

        Returns:
            Step or None: The step.
        """
        for step in self.steps:
            if step.name == name:
                return step
        return None
