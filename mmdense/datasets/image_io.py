"""Read image files, whatever is in them."""

import io
from typing import Optional, Tuple

import cv2
import numpy as np
from mmengine.fileio import get as read_bytes
from PIL import Image, ImageOps

# what can be wrong with a file; the position is the code in shared memory
REASONS = (
    '',
    'missing',
    'unreadable',
    'empty',
    'not an image',
    'truncated',
    'corrupt',
    'too large',
    'rejected by the pipeline',
)
# the size from which Pillow suspects a decompression bomb
MAX_PIXELS = 89_478_485
_RGB_FLAG = getattr(cv2, 'IMREAD_COLOR_RGB', 0)
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_EXIF_ORIENTATION = 0x0112


class BadImageError(ValueError):
    """A file that cannot be used as an image.

    Args:
        path (str): The file.
        reason (str): One of :data:`REASONS`.
        detail (str): What exactly was found. Defaults to ''.
    """

    def __init__(self, path: str, reason: str, detail: str = '') -> None:
        assert reason in REASONS
        super().__init__(path, reason, detail)
        self.path = path
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        detail = f' ({self.detail})' if self.detail else ''
        return f'{self.path}: {self.reason}{detail}'


def to_rgb(image: Image.Image) -> np.ndarray:
    """8-bit RGB array of a picture in any of Pillow's modes.

    Transparent parts are shown on white. 16-bit grey is scaled from its
    full range, 32-bit float from [0, 1] if it stays there and cut to
    [0, 255] otherwise. Of an animation the first frame is taken. The EXIF
    orientation is applied.

    Args:
        image (Image.Image): The picture.

    Returns:
        np.ndarray: ``(H, W, 3)``, uint8.
    """
    image = ImageOps.exif_transpose(image) or image
    mode = image.mode
    if mode.startswith('I') or mode == 'F':
        grey = np.nan_to_num(np.asarray(image, dtype=np.float64))
        top = grey.max(initial=0.0)
        if mode != 'F' and (mode != 'I' or top > 255):
            grey = grey / 257
        elif mode == 'F' and top <= 1:
            grey = grey * 255
        grey = np.clip(grey + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa') or (
        'transparency' in image.info
    ):
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    if image.mode != 'RGB':
        image = image.convert('RGB')
    return np.array(image)


def _orient(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation >= 5:
        image = cv2.transpose(image)
    # after a transposition the two axes have changed roles
    code = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if code is None else cv2.flip(image, code)


class EncodedImage:
    """An image file whose size is known before its pixels are decoded.

    Plain JPEG files (8-bit RGB or grey) are decoded on demand, at a fraction
    of their size if that is enough; everything else is decoded at once.

    Args:
        content (bytes): Content of the file.
        path (str): Its name, for messages. Defaults to '<memory>'.
        max_pixels (int): Larger images are refused. Defaults to
            :data:`MAX_PIXELS`.

    Raises:
        BadImageError: If it is no image that can be used.
    """

    def __init__(
        self,
        content: bytes,
        path: str = '<memory>',
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.path = path
        self._content = content
        self._pixels: Optional[np.ndarray] = None
        self._orientation = 1
        if not content:
            raise BadImageError(path, 'empty', '0 bytes')
        image = self._open()
        width, height = image.size
        if width * height > max_pixels:
            raise BadImageError(
                path,
                'too large',
                f'{width}x{height}, more than max_pixels={max_pixels}',
            )
        # OpenCV would fill up a cut file in grey; Pillow finds out
        whole = content.find(b'\xff\xd9', len(content) - 64) >= 0
        if image.format == 'JPEG' and image.mode in ('RGB', 'L') and whole:
            if 'exif' in image.info:
                self._orientation = self._read_orientation(image)
            if self._orientation >= 5:
                width, height = height, width
        else:
            self._pixels = self._decode_with_pillow(image)
            height, width = self._pixels.shape[:2]
        self.width = width
        self.height = height

    def _open(self) -> Image.Image:
        try:
            return Image.open(io.BytesIO(self._content))
        except Image.DecompressionBombError as error:
            raise BadImageError(self.path, 'too large', str(error)) from None
        except Exception as error:  # plugins raise whatever they meet
            start = self._content[:8]
            raise BadImageError(
                self.path,
                'not an image',
                f'{len(self._content)} bytes starting with {start!r}; '
                f'{type(error).__name__}',
            ) from None

    @staticmethod
    def _read_orientation(image: Image.Image) -> int:
        try:
            value = int(image.getexif().get(_EXIF_ORIENTATION, 1))
        except Exception:  # broken EXIF leaves the picture usable
            return 1
        return value if 1 <= value <= 8 else 1

    def _decode_with_pillow(self, image: Image.Image) -> np.ndarray:
        try:
            image.load()
            return to_rgb(image)
        except Exception as error:  # decoders raise whatever they meet
            text = str(error)
            cut = 'truncated' in text or isinstance(error, EOFError)
            raise BadImageError(
                self.path,
                'truncated' if cut else 'corrupt',
                f'{type(error).__name__}: {text}',
            ) from None

    def decode(self, reduction: int = 1) -> Tuple[np.ndarray, int]:
        """Decode the pixels.

        Args:
            reduction (int): 1, 2, 4 or 8: decode a JPEG at that fraction of
                its size (by the scaled inverse DCT, several times faster).
                Other formats are not reduced. Defaults to 1.

        Returns:
            Tuple[np.ndarray, int]: RGB ``(H, W, 3)``, uint8, upright, and
            the reduction that was applied. Position ``x`` of the full image
            is ``x / reduction`` there; partial pixels at the right and
            bottom are kept.

        Raises:
            BadImageError: If the pixels are damaged.
        """
        if self._pixels is not None:
            return self._pixels, 1
        flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
        buffer = np.frombuffer(self._content, np.uint8)
        try:
            pixels = cv2.imdecode(buffer, flags | _RGB_FLAG)
        except cv2.error as error:
            raise BadImageError(self.path, 'corrupt', str(error)) from None
        if pixels is None:
            # what OpenCV refuses, Pillow may be able to read
            return self._decode_with_pillow(self._open()), 1
        if not _RGB_FLAG:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        return _orient(pixels, self._orientation), reduction


def open_image(
    path: str,
    max_pixels: int = MAX_PIXELS,
    backend_args: Optional[dict] = None,
) -> EncodedImage:
    """Read a file and look at its header.

    Args:
        path (str): The file.
        max_pixels (int): Larger images are refused. Defaults to
            :data:`MAX_PIXELS`.
        backend_args (dict, optional): File backend of mmengine. Defaults to
            None, the local disk.

    Returns:
        EncodedImage: Ready to decode.

    Raises:
        BadImageError: If the file cannot be read or is no usable image.
    """
    try:
        if backend_args is None:
            with open(path, 'rb') as file:
                content = file.read()
        else:
            content = read_bytes(path, backend_args=backend_args)
    except FileNotFoundError:
        raise BadImageError(path, 'missing') from None
    except OSError as error:
        raise BadImageError(path, 'unreadable', str(error)) from None
    return EncodedImage(content, path, max_pixels)
