"""Text, legends and grids on RGB arrays."""

import os.path as osp
from functools import cache
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (255, 255, 255)
INK = (30, 30, 30)
#: Shades of the two kinds of stripes that mark invalid pixels.
HATCH = (70, 150)


@cache
def font(size: int) -> Any:
    """A font with Greek letters.

    Args:
        size (int): Height of a line in pixels.

    Returns:
        ImageFont: DejaVu Sans of matplotlib, or Pillow's own.
    """
    try:
        import matplotlib

        path = osp.join(matplotlib.get_data_path(), 'fonts', 'ttf')
        return ImageFont.truetype(osp.join(path, 'DejaVuSans.ttf'), size)
    except (ImportError, OSError):
        return ImageFont.load_default()


def text_width(text: str, size: int) -> int:
    """Width of one line.

    Args:
        text (str): The line.
        size (int): Size of the font in pixels.

    Returns:
        int: Pixels.
    """
    left, _, right, _ = font(size).getbbox(text)
    return int(np.ceil(right - left))


def title(text: str, width: int, size: int) -> np.ndarray:
    """A strip with one line of text; too long a line gets a smaller font.

    Args:
        text (str): The line.
        width (int): Width of the strip in pixels.
        size (int): Size of the font in pixels; never less than 9.

    Returns:
        np.ndarray: RGB image ``(1.7 * size, width, 3)``, uint8; what does
        not fit is cut and ends in '...'.
    """
    strip = Image.new('RGB', (width, int(size * 1.7)), BACKGROUND)
    fitting = size
    while fitting > 9 and text_width(text, fitting) > width - 4:
        fitting -= 1
    shown = text
    while text_width(shown, fitting) > width - 4 and len(text) > 1:
        text = text[:-1]
        shown = text.rstrip() + '...'
    draw = ImageDraw.Draw(strip)
    x = (width - text_width(shown, fitting)) // 2
    draw.text((x, int(size * 0.2)), shown, INK, font=font(fitting))
    return np.asarray(strip)


def hatch(height: int, width: int, period: int = 8) -> np.ndarray:
    """Diagonal grey stripes, which no colour map of depth contains.

    Args:
        height (int): Rows.
        width (int): Columns.
        period (int): Pixels from stripe to stripe. Defaults to 8.

    Returns:
        np.ndarray: RGB image ``(height, width, 3)``, uint8.
    """
    rows, cols = np.ogrid[:height, :width]
    light = (rows + cols) % period < max(period // 4, 1)
    grey = np.where(light, HATCH[1], HATCH[0]).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def nice_ticks(low: float, high: float, most: int = 6) -> List[float]:
    """Round numbers inside a range.

    Args:
        low (float): Lower end.
        high (float): Upper end, > ``low``.
        most (int): At most so many. Defaults to 6.

    Returns:
        List[float]: In steps of 1, 2, 2.5 or 5 times a power of ten; the two
        ends if there is no round number between them.
    """
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** np.floor(np.log10(raw))
    factors = [f for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999]
    step = factors[0] * power
    first = np.ceil(low / step - 1e-9)
    last = np.floor(high / step + 1e-9)
    # adding 0.0 turns -0.0 into 0.0
    ticks = [float(k * step + 0.0) for k in np.arange(first, last + 1)]
    return ticks if len(ticks) > 1 else [float(low), float(high)]


def legend(
    height: int,
    low: float,
    high: float,
    paint: Callable[[np.ndarray], np.ndarray],
    unit: str,
    size: int = 13,
    form: Optional[Callable[[float], str]] = None,
) -> np.ndarray:
    """A vertical colour bar with ticks, large values at the top.

    Args:
        height (int): Rows of the strip.
        low (float): Value at the bottom.
        high (float): Value at the top.
        paint (Callable): From values ``(H, W)`` to RGB ``(H, W, 3)``.
        unit (str): What the numbers count, written above the bar.
        size (int): Size of the font in pixels. Defaults to 13.
        form (Callable, optional): From a tick to its text. None for three
            digits. Defaults to None.

    Returns:
        np.ndarray: RGB image ``(height, W, 3)``, uint8.
    """
    most = int(np.clip(height // (3 * size), 2, 7))
    ticks = nice_ticks(low, high, most)
    texts = [form(t) if form else f'{t:.3g}' for t in ticks]
    top, bottom = int(size * 1.6), height - size // 2 - 2
    bar = max(size, 10)
    wide = max([text_width(t, size) for t in texts])
    width = 4 + max(bar + 8 + wide, text_width(unit, size)) + 4
    strip = np.full((height, width, 3), BACKGROUND, np.uint8)
    rows = max(bottom - top, 2)
    values = np.linspace(high, low, rows)[:, None].repeat(bar, 1)
    strip[top : top + rows, 4 : 4 + bar] = paint(values)[: height - top]
    image = Image.fromarray(strip)
    draw = ImageDraw.Draw(image)
    draw.rectangle((3, top - 1, 4 + bar, top + rows), outline=INK)
    draw.text((4, 0), unit, INK, font=font(size))
    for tick, text in zip(ticks, texts):
        y = top + (high - tick) / (high - low) * (rows - 1)
        draw.line((4 + bar, y, 7 + bar, y), INK)
        draw.text((10 + bar, y - size * 0.62), text, INK, font=font(size))
    return np.asarray(image)


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures of one height beside each other.

    Args:
        left (np.ndarray): RGB ``(H, W1, 3)``, uint8.
        right (np.ndarray): RGB ``(H, W2, 3)``, uint8.

    Returns:
        np.ndarray: RGB ``(H, W1 + W2, 3)``, uint8.
    """
    return np.concatenate((left, right), axis=1)


def grid(
    tiles: Sequence[np.ndarray], columns: int, gap: int = 6
) -> np.ndarray:
    """Tiles in rows, each column as wide as its widest tile.

    Args:
        tiles (Sequence[np.ndarray]): RGB ``(H, W, 3)``, uint8.
        columns (int): Tiles in a row.
        gap (int): Pixels between tiles. Defaults to 6.

    Returns:
        np.ndarray: RGB image, uint8, white where there is no tile.
    """
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [max(tile.shape[0] for tile in row) for row in rows]
    widths = [
        max(row[i].shape[1] for row in rows if i < len(row))
        for i in range(min(columns, len(tiles)))
    ]
    size: Tuple[int, int] = (
        sum(heights) + gap * (len(heights) - 1),
        sum(widths) + gap * (len(widths) - 1),
    )
    canvas = np.full((*size, 3), BACKGROUND, np.uint8)
    y = 0
    for row, height in zip(rows, heights):
        x = 0
        for tile, width in zip(row, widths):
            canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
            x += width + gap
        y += height + gap
    return canvas
