"""Small pictures for reports."""

import io
from typing import Dict, Sequence, Tuple

import numpy as np
from PIL import Image

Curve = Tuple[Sequence[float], Sequence[float]]


def image_png(image: np.ndarray) -> bytes:
    """Encode an RGB image.

    Args:
        image (np.ndarray): ``(H, W, 3)``, uint8.

    Returns:
        bytes: PNG file.
    """
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, 'PNG', optimize=True)
    return stream.getvalue()


def color_labels(
    labels: np.ndarray,
    palette: Sequence[Sequence[int]],
    ignore_index: int = 255,
) -> np.ndarray:
    """Paint a label map.

    Args:
        labels (np.ndarray): Class indices, ``(H, W)``.
        palette (Sequence): One RGB triple in [0, 255] per class.
        ignore_index (int): Label painted black. Defaults to 255.

    Returns:
        np.ndarray: RGB image ``(H, W, 3)``, uint8.

    Raises:
        ValueError: If a label has no colour.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8)
    known = (labels < len(palette)) | (labels == ignore_index)
    if not known.all():
        bad = sorted({int(v) for v in labels[~known]})[:5]
        raise ValueError(
            f'labels {bad} have no colour: the palette has {len(palette)}.'
        )
    return table[labels.astype(np.uint8)]


def curve_png(
    curves: Dict[str, Curve],
    title: str,
    x_label: str,
    size: Tuple[float, float] = (4.6, 3.0),
) -> bytes:
    """Draw curves into one frame.

    Args:
        curves (Dict[str, Curve]): Name to steps and values.
        title (str): Title of the frame.
        x_label (str): What the steps count.
        size (tuple): Width and height in inches. Defaults to (4.6, 3.0).

    Returns:
        bytes: PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (steps, values) in curves.items():
        marker = 'o' if len(steps) < 12 else None
        axes.plot(steps, values, label=name, marker=marker, markersize=3)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format='png')
    return stream.getvalue()
