"""Films in, depth of their frames and a film of its colours out."""

import os
import re
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Set,
    Tuple,
    Union,
)

import cv2
import numpy as np

from ...datasets.image_index import IMAGE_EXTENSIONS, FolderListing
from ...datasets.image_io import open_image
from ...utils.errors import UserValueError
from ...visualization.depth import depth_range
from .base import OnSkip, warn_of_skip
from .depth import DepthInferencer
from .depth_files import limits_of, paint, read_depth, values_of
from .depth_writer import DepthWriter

VIDEO_EXTENSIONS = (
    *('.mp4', '.m4v', '.avi', '.mov', '.mkv', '.webm'),
    *('.mpg', '.mpeg', '.wmv', '.flv', '.ts', '.3gp'),
)
SCALINGS = ('film', 'running')
# what decoders may tell wrong of the number of frames
_SLACK = 2
_DEFAULT_FPS = 25.0
# frames and pixels of each that the colours of a film are chosen from
_SAMPLE_FRAMES, _SAMPLE_PIXELS = 200, 4096
# share of the past in a running range
_MOMENTUM = 0.95


def _natural(path: str) -> List[Any]:
    """Sorting key that puts frame 2 before frame 10."""
    parts = re.split(r'(\d+)', path)
    return [int(part) if part.isdigit() else part for part in parts]


class Film:
    """Frames of a video file, or of a folder of images.

    Iterating gives BGR arrays ``(H, W, 3)``, uint8, or, for a folder, paths
    in natural order (frame 2 before frame 10). It may be done again.

    Args:
        path (str or Path): File or folder.
        fps (float, optional): Frames a second. Defaults to None, what the
            file says, 25 if it says nothing.

    Attributes:
        path (Path): As given.
        fps (float): Frames a second.
        count (int): Frames it should have, 0 if not known.

    Raises:
        UserValueError: If it cannot be opened or holds no frame.
    """

    def __init__(
        self, path: Union[str, Path], fps: Optional[float] = None
    ) -> None:
        self.path = Path(path)
        self._files: List[str] = []
        if self.path.is_dir():
            listing = FolderListing().scan(
                str(path), IMAGE_EXTENSIONS, recursive=False
            )
            self._files = sorted(listing.files, key=_natural)
            self.count = len(self._files)
            if not self._files:
                raise UserValueError(f'{path} holds no frames (images).')
            self.fps = fps or _DEFAULT_FPS
            return
        capture = self._open()
        good, _ = capture.read()
        own = float(capture.get(cv2.CAP_PROP_FPS))
        self.count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        capture.release()
        if not good:
            raise UserValueError(
                f'{path} is a broken film: no frame can be decoded.'
            )
        plausible = np.isfinite(own) and 0 < own <= 1000
        self.fps = fps or (own if plausible else _DEFAULT_FPS)

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise UserValueError(f'No film at {self.path}.')
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise UserValueError(
                f'{self.path} ({self.path.stat().st_size:,} bytes) cannot be '
                'opened as a film: it is cut off or no film, or OpenCV does '
                'not know its codec.'
            )
        return capture

    def __iter__(self) -> Iterator[Union[str, np.ndarray]]:
        if self._files:
            yield from self._files
            return
        capture = self._open()
        try:
            while True:
                good, frame = capture.read()
                if not good:
                    return
                yield frame
        finally:
            capture.release()

    def complaint(self, read: int) -> str:
        """What is wrong with a film of which so many frames were read.

        Args:
            read (int): Number of frames.

        Returns:
            str: '' if nothing is.
        """
        if read + max(_SLACK, self.count // 100) >= self.count:
            return ''
        return f'only {read} of its {self.count} frames can be decoded'


class FilmWriter:
    """Write pictures as a film; it appears under its name when complete.

    Pictures of another size than the first are brought to it. Sizes are made
    even by repeating the last row or column, as the codec wants.

    Args:
        path (Path): The file, ``.mp4``.
        fps (float): Frames a second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self._fps = fps
        self._part = path.with_name(f'.{path.stem}.{os.getpid()}.part.mp4')
        self._size: Tuple[int, int] = (0, 0)
        self._writer: Optional[cv2.VideoWriter] = None

    def __enter__(self) -> 'FilmWriter':
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, picture: np.ndarray) -> None:
        """Add a picture.

        Args:
            picture (np.ndarray): RGB ``(H, W, 3)``, uint8.

        Raises:
            UserValueError: If OpenCV cannot write films.
        """
        if self._writer is None:
            height, width = picture.shape[:2]
            self._size = (height + height % 2, width + width % 2)
            code = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(
                str(self._part), code, self._fps, self._size[::-1]
            )
            if not self._writer.isOpened():
                raise UserValueError(
                    f'OpenCV cannot write {self.path} (mp4v, '
                    f'{self._size[1]}x{self._size[0]}).'
                )
        self._writer.write(_brought_to(picture, self._size)[..., ::-1].copy())

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._writer is not None:
            self._writer.release()
        if kind is None and self._writer is not None:
            os.replace(self._part, self.path)
        elif self._part.exists():
            self._part.unlink()


def _brought_to(picture: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """A picture of a size: a little padded or cut, else resized."""
    missing = [size[axis] - picture.shape[axis] for axis in (0, 1)]
    if any(abs(missing[axis]) > 0.1 * size[axis] for axis in (0, 1)):
        return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    below, right = (max(number, 0) for number in missing)
    padded = np.pad(picture, ((0, below), (0, right), (0, 0)), 'edge')
    return padded[: size[0], : size[1]]


def infer_film(
    model: DepthInferencer,
    writer: DepthWriter,
    film: Film,
    name: str,
    batch_size: int = 1,
    scaling: str = 'film',
    on_skip: Optional[OnSkip] = None,
    on_frame: Optional[Callable[[], Any]] = None,
) -> Dict[str, Any]:
    """Depth of all frames of a film, then a film of its colours.

    Frame by frame; nothing makes neighbouring frames agree. Depth is written
    first, as ``depth/NAME/000000.png`` and so on (also if the writer was
    asked for colours only, since these depend on all frames), then
    ``vis/NAME.mp4``.

    Args:
        model (DepthInferencer): The model.
        writer (DepthWriter): Where results go.
        film (Film): The frames.
        name (str): Of the results.
        batch_size (int): Frames in a forward pass. Defaults to 1.
        scaling (str): Colours of one range for the film ('film') or of one
            that follows its frames slowly ('running'). The writer's limits
            come first. Defaults to 'film'.
        on_skip (Callable[[str, str], None], optional): Called with name and
            reason for frames that failed. Defaults to None, a warning.
        on_frame (Callable[[], Any], optional): Called for each frame whose
            depth is there. Defaults to None.

    Returns:
        dict: Entry of the film in the index: ``input``, ``fps``, ``frames``
        (read), ``predicted``, ``kept`` (from an earlier call), ``complaint``
        (str, what is wrong with the file) and, of the colours, ``file``,
        ``scaling``, ``low`` and ``high``.

    Raises:
        UserValueError: If ``scaling`` is unknown or no frame has depth.
    """
    if scaling not in SCALINGS:
        raise UserValueError(f'scaling={scaling!r}: choose from {SCALINGS}.')
    run = _FilmRun(model, writer, film, name, on_skip or warn_of_skip)
    run.predict(batch_size, on_frame or (lambda: None))
    entry: Dict[str, Any] = dict(
        input=str(film.path),
        fps=film.fps,
        frames=run.read,
        predicted=len(run.ready) - run.kept,
        kept=run.kept,
        complaint=film.complaint(run.read),
    )
    if not run.ready:
        raise UserValueError(f'{film.path}: no frame could be predicted.')
    if 'color' in writer.save:
        entry.update(run.color(scaling))
    writer.note(name, entry)
    return entry


class _FilmRun:
    """Predict and colour one film."""

    def __init__(
        self,
        model: DepthInferencer,
        writer: DepthWriter,
        film: Film,
        name: str,
        on_skip: OnSkip,
    ) -> None:
        self.model, self.writer, self.film = model, writer, film
        self.name = name
        self.on_skip = on_skip
        formats = [kind for kind in writer.save if kind != 'color']
        if 'png' not in formats and 'npy' not in formats:
            formats.append('png')
        self.formats = formats
        self.store = 'npy' if 'npy' in formats else 'png'
        self.read = self.kept = 0
        # frames whose depth is that of this model
        self.ready: Set[int] = set()
        self._waiting: List[int] = []

    def _frame(self, index: int) -> str:
        return f'{self.name}/{index:06d}'

    def _source(self, item: Union[str, np.ndarray]) -> str:
        return item if isinstance(item, str) else str(self.film.path)

    def _missing(
        self, on_frame: Callable[[], Any]
    ) -> Iterator[Union[str, np.ndarray]]:
        """Frames without depth yet."""
        for index, item in enumerate(self.film):
            self.read += 1
            source = self._source(item)
            if self.writer.done(source, self._frame(index), self.formats):
                self.kept += 1
                self.ready.add(index)
                on_frame()
                continue
            self._waiting.append(index)
            yield item

    def predict(self, batch_size: int, on_frame: Callable[[], Any]) -> None:
        """Write the depth of the frames that have none."""

        def skip(name: str, reason: str) -> None:
            if name.startswith('array '):
                index = self._waiting[int(name.split()[1])]
                name = f'{self.film.path}, frame {index}'
            self.on_skip(name, reason)

        found = self.model.predict(self._missing(on_frame), batch_size, skip)
        for result in found:
            index = self._waiting[result.position]
            if result.name.startswith('array '):
                result = result._replace(name=str(self.film.path))
            self.writer.write(result, self._frame(index), self.formats)
            self.ready.add(index)
            on_frame()

    def _depth(self, index: int) -> Optional[np.ndarray]:
        if index not in self.ready:
            return None
        path = self.writer.path(self._frame(index), self.store)
        return read_depth(path)[0]

    def _limits(self) -> Tuple[float, float]:
        """One range for all frames."""
        step = max(self.read // _SAMPLE_FRAMES, 1)
        pixels = []
        for index in range(0, self.read, step):
            depth = self._depth(index)
            if depth is not None:
                every = max(depth.size // _SAMPLE_PIXELS, 1)
                pixels.append(depth.ravel()[::every])
        return depth_range(pixels, values=values_of(self.model.kind))

    def color(self, scaling: str) -> Dict[str, Any]:
        """Write the film of the colours."""
        writer, kind = self.writer, self.model.kind
        path = writer.out_dir / 'vis' / f'{self.name}.mp4'
        file = path.relative_to(writer.out_dir).as_posix()
        low, high = writer.limits or self._limits()
        running = writer.limits is None and scaling == 'running'
        picture: Optional[np.ndarray] = None
        ends: Optional[np.ndarray] = None
        with FilmWriter(path, self.film.fps) as target:
            for index, image in enumerate(self._images()):
                depth = self._depth(index)
                if depth is not None:
                    if running:
                        new = np.array(limits_of(depth, kind))
                        past = new if ends is None else ends
                        ends = _MOMENTUM * past + (1 - _MOMENTUM) * new
                        low, high = (float(end) for end in ends)
                    picture = paint(
                        depth, kind, (low, high), image, writer.panel
                    )
                # a frame without depth keeps the one before
                if picture is not None:
                    target.write(picture)
        found: Dict[str, Any] = dict(file=file, scaling=scaling)
        if not running:
            found.update(low=low, high=high)
        return found

    def _images(self) -> Iterator[Optional[np.ndarray]]:
        """RGB frames for panels; None for each if there are no panels."""
        if not self.writer.panel:
            yield from [None] * self.read
            return
        for item in self.film:
            if not isinstance(item, str):
                yield item[..., ::-1]
                continue
            try:
                yield open_image(item).decode()[0]
            except ValueError:  # reported when it was to be predicted
                yield None
