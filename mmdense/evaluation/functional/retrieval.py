"""Nearest neighbours as a test of frozen features: images and patches."""

from typing import NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def _check(train_x: Tensor, train_y: Tensor, test_x: Tensor, k: int) -> None:
    if (
        train_x.ndim != 2
        or test_x.ndim != 2
        or train_y.shape != train_x.shape[:1]
        or train_x.shape[1] != test_x.shape[1]
        or len(train_x) == 0
    ):
        raise ValueError(
            f'Features {tuple(train_x.shape)} with labels '
            f'{tuple(train_y.shape)} and features {tuple(test_x.shape)}; '
            'expected (M, D) with (M,) and (T, D), M at least 1.'
        )
    if train_y.is_floating_point() or int(train_y.min()) < 0:
        raise ValueError('Labels have to be integers of at least 0.')
    if k < 1:
        raise ValueError(f'k must be at least 1, got {k}.')


def knn_classify(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    chunk: int = 256,
    train_group: Optional[Tensor] = None,
    test_group: Optional[Tensor] = None,
) -> Tensor:
    """Weighted vote of the k nearest neighbours.

    The k training features of the highest cosine similarity s vote for
    their labels with weight exp(s / temperature).

    Sources: Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via
    Non-Parametric Instance Discrimination", CVPR 2018, section 3.4;
    facebookresearch/dino ``eval_knn.py``.

    Args:
        train_x (Tensor): Features ``(M, D)``, of any length.
        train_y (Tensor): Their labels ``(M,)``, integers of at least 0.
        test_x (Tensor): Features ``(T, D)`` to classify.
        k (int): Number of voters; all M if there are fewer. Defaults to 20.
        temperature (float): Above 0. Defaults to 0.07.
        chunk (int): Test features at a time; ``chunk * M`` similarities are
            in memory. Defaults to 256.
        train_group (Tensor, optional): Group ``(M,)`` of each training
            feature, for instance its image. Defaults to None.
        test_group (Tensor, optional): Group ``(T,)`` of each test feature;
            training features of its own group do not vote for it. Defaults
            to None: all may.

    Returns:
        Tensor: Labels ``(T,)``, int64; the smaller one where two labels have
        equal votes, and -1 where nobody may vote.

    Raises:
        ValueError: If shapes, labels, k or temperature do not fit.
    """
    _check(train_x, train_y, test_x, k)
    if not temperature > 0:
        raise ValueError(f'temperature must be > 0, got {temperature}.')
    if (train_group is None) != (test_group is None):
        raise ValueError('Give train_group and test_group, or neither.')
    gallery = F.normalize(train_x.float(), dim=1).t().contiguous()
    queries = F.normalize(test_x.float(), dim=1)
    labels = train_y.long()
    classes, k = int(labels.max()) + 1, min(k, len(labels))
    found = []
    for start in range(0, len(queries), chunk):
        scores = queries[start : start + chunk] @ gallery
        if train_group is not None and test_group is not None:
            own = test_group[start : start + chunk, None] == train_group
            scores.masked_fill_(own, float('-inf'))
        scores, voters = scores.topk(k, dim=1)
        # weights relative to the nearest: exp(1 / 0.01) is no float
        nearest = scores[:, :1].nan_to_num(neginf=0.0)
        weights = ((scores - nearest) / temperature).exp()
        votes = weights.new_zeros(len(weights), classes)
        votes.scatter_add_(1, labels[voters], weights)
        best = votes.argmax(dim=1)
        found.append(best.masked_fill(votes.sum(dim=1) == 0, -1))
    return torch.cat(found) if found else labels.new_zeros(0)


def patch_labels(
    labels: Tensor, hw: Tuple[int, int], ignore_index: int = 255
) -> Tensor:
    """Most frequent label inside each patch.

    Args:
        labels (Tensor): Label maps ``(B, H, W)``, integers.
        hw (Tuple[int, int]): Patch grid; has to divide ``(H, W)``.
        ignore_index (int): Value of pixels without a label; they do not
            count. Defaults to 255.

    Returns:
        Tensor: ``(B, h * w)``, int64, row by row; the smaller label of two
        that are equally frequent, ``ignore_index`` for a patch without any
        labelled pixel.

    Raises:
        ValueError: If the grid does not divide the maps or a label is
            negative.
    """
    if labels.ndim != 3 or any(
        side % cells for side, cells in zip(labels.shape[1:], hw)
    ):
        raise ValueError(
            f'Label maps of shape {tuple(labels.shape)} cannot be cut into '
            f'{hw[0]}x{hw[1]} patches: expected (B, H, W) with sides that '
            'the grid divides. Resize images and labels first.'
        )
    batch, height, width = labels.shape
    cells = labels.long().reshape(
        batch, hw[0], height // hw[0], hw[1], width // hw[1]
    )
    cells = cells.transpose(2, 3).reshape(batch, hw[0] * hw[1], -1)
    known = cells != ignore_index
    if bool((cells[known] < 0).any()):
        raise ValueError('Labels have to be at least 0.')
    classes = int(cells[known].max()) + 1 if bool(known.any()) else 1
    counts = torch.zeros(
        *cells.shape[:2], classes, dtype=torch.long, device=cells.device
    )
    counts.scatter_add_(2, cells.where(known, cells.new_zeros(())), known + 0)
    majority = counts.argmax(dim=2)
    return majority.masked_fill(~known.any(dim=2), ignore_index)


class RetrievalScore(NamedTuple):
    """Result of a patch retrieval.

    Attributes:
        accuracy (float): Share of patches whose label was found, [0, 1].
        mean_class_accuracy (float): Mean over the classes that occur among
            the queries of the share of their patches, [0, 1].
        patches (int): Number of labelled query patches.
        most_frequent (float): Share of the most frequent class among them:
            what a constant answer scores, [0, 1].
    """

    accuracy: float
    mean_class_accuracy: float
    patches: int
    most_frequent: float


def label_scores(predicted: Tensor, labels: Tensor) -> RetrievalScore:
    """Compare labels of patches.

    Args:
        predicted (Tensor): Labels ``(T,)``; -1 counts as wrong.
        labels (Tensor): True labels ``(T,)``, integers of at least 0.

    Returns:
        RetrievalScore: The scores.

    Raises:
        ValueError: If there are none or the shapes differ.
    """
    if predicted.shape != labels.shape or not labels.numel():
        raise ValueError(
            f'Predictions {tuple(predicted.shape)} for labels '
            f'{tuple(labels.shape)}; expected (T,) twice, T at least 1.'
        )
    right = (predicted == labels).double()
    totals = torch.bincount(labels.long())
    hits = torch.bincount(labels.long(), weights=right)
    occurs = totals > 0
    return RetrievalScore(
        accuracy=float(right.mean()),
        mean_class_accuracy=float((hits[occurs] / totals[occurs]).mean()),
        patches=len(labels),
        most_frequent=float(totals.max()) / len(labels),
    )


def patch_retrieval(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    ignore_index: int = 255,
    same_images: bool = False,
) -> RetrievalScore:
    """Classify the patches of images by the patches of other images.

    Each labelled query patch takes the label that :func:`knn_classify`
    finds among all labelled gallery patches.

    Args:
        train_x (Tensor): Patch features ``(I, N, D)`` of the gallery.
        train_y (Tensor): Their labels ``(I, N)``, see :func:`patch_labels`.
        test_x (Tensor): Patch features ``(J, N, D)`` of the queries.
        test_y (Tensor): Their labels ``(J, N)``.
        k (int): Number of voters. Defaults to 20.
        temperature (float): Of the votes, above 0. Defaults to 0.07.
        ignore_index (int): Label of patches that are left out on both
            sides. Defaults to 255.
        same_images (bool): Image ``i`` of the queries is image ``i`` of the
            gallery, whose patches then do not vote for it. Defaults to
            False: no image is on both sides.

    Returns:
        RetrievalScore: Accuracy over patches and over classes.

    Raises:
        ValueError: If shapes do not fit, or no patch is labelled.
    """
    for name, x, y in (('gallery', train_x, train_y), ('q', test_x, test_y)):
        if x.ndim != 3 or y.shape != x.shape[:2]:
            raise ValueError(
                f'Patch features {tuple(x.shape)} with labels '
                f'{tuple(y.shape)} ({name}); expected (I, N, D) and (I, N).'
            )
    known, asked = train_y != ignore_index, test_y != ignore_index
    if not bool(known.any()) or not bool(asked.any()):
        raise ValueError(
            'No patch of the gallery or of the queries has a label: all are '
            f'ignore_index={ignore_index}.'
        )

    def images(mask: Tensor) -> Optional[Tensor]:
        image = torch.arange(len(mask), device=mask.device)
        return image[:, None].expand_as(mask)[mask] if same_images else None

    predicted = knn_classify(
        train_x[known],
        train_y[known],
        test_x[asked],
        k,
        temperature,
        train_group=images(known),
        test_group=images(asked),
    )
    return label_scores(predicted, test_y[asked])
