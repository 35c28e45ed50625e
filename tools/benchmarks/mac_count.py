"""Multiply-add counts of the parts of a DINO or SelfPatch training step.

Counted are the matrix products and the patch convolution. Softmax, norms,
activations, gathers and the optimiser move memory and multiply little; they
are what a measured time has on top of these counts.
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple

# width, layers and heads of a DeiT; the MLP is four times as wide
ARCHS = {'tiny': (192, 12, 3), 'small': (384, 12, 6), 'base': (768, 12, 12)}
PARTS = ('backbone', 'aggregation', 'class head', 'patch head')


class Sizes(NamedTuple):
    """What the arithmetic of a step depends on.

    Attributes:
        dims (int): Width D of the ViT.
        layers (int): Number of its layers.
        patch (int): Side of a patch in pixels.
        crops (Sequence[Tuple[int, int]]): Groups of ``(number, pixels)``;
            the first one holds the global crops.
        batch (int): Images.
        out (int): Outputs of the class head.
        patch_out (int): Outputs of the patch head.
        hidden (int): Hidden width of both heads.
        bottleneck (int): Bottleneck of both heads.
        top_k (int): Neighbours that are aggregated for a patch.
        candidates (int): Neighbours they are chosen from.
        depth (int): Blocks of the aggregation head.
    """

    dims: int
    layers: int
    patch: int
    crops: Sequence[Tuple[int, int]]
    batch: int
    out: int = 65536
    patch_out: int = 4096
    hidden: int = 2048
    bottleneck: int = 256
    top_k: int = 4
    candidates: int = 8
    depth: int = 2


def patch_embedding(tokens: int, dims: int, patch: int) -> int:
    """Of one image with so many patches."""
    return tokens * 3 * patch * patch * dims


def vit_layers(length: int, dims: int, layers: int) -> int:
    """Of a sequence: attention (scores and values) and a 4x MLP."""
    products = length * (3 + 1 + 8) * dims * dims
    return layers * (products + 2 * length * length * dims)


def dino_head(
    dims: int, hidden: int, bottleneck: int, out: int, num_layers: int = 3
) -> int:
    """Of one vector."""
    inner = (num_layers - 2) * hidden * hidden
    return dims * hidden + inner + hidden * bottleneck + bottleneck * out


def class_attention(dims: int, keys: int) -> int:
    """Of one class vector in one block, without keys and values of tokens.

    Query, key and value of the class vector itself, the attention to itself
    and ``keys`` tokens, output projection and MLP.
    """
    return (3 + 1 + 8) * dims * dims + 2 * (1 + keys) * dims


def keys_values(tokens: int, dims: int) -> int:
    """Keys and values of tokens in one block."""
    return tokens * 2 * dims * dims


def _aggregation(
    size: Sizes, tokens: int, targets: bool, per_copy: bool
) -> int:
    """Of one crop: class vector, and for the teacher targets of patches."""
    block = class_attention(size.dims, tokens)
    total = block + keys_values(tokens, size.dims)
    if targets:
        copies = size.top_k if per_copy else 1
        total += tokens * class_attention(size.dims, size.top_k)
        total += keys_values(tokens * copies, size.dims)
    total *= size.depth
    if targets:
        total += tokens * size.candidates * size.dims  # similarities
    return total


def step_macs(
    size: Sizes, selfpatch: bool, per_copy: bool = False
) -> Dict[str, int]:
    """Multiply-adds of one training step.

    The backward pass of the student costs twice its forward pass, except
    that the images need no gradient. The teacher has no backward pass.

    Args:
        size (Sizes): Model and crops.
        selfpatch (bool): SelfPatch, whose teacher sees all crops, otherwise
            DINO with a class token, whose teacher sees the first group.
        per_copy (bool): Project keys and values for each copy of a
            neighbour instead of once per token. Defaults to False.

    Returns:
        Dict[str, int]: Multiply-adds by part, see :data:`PARTS`.
    """
    head = dino_head(size.dims, size.hidden, size.bottleneck, size.out)
    patch_head = dino_head(
        size.dims, size.hidden, size.bottleneck, size.patch_out
    )
    total = dict.fromkeys(PARTS, 0)
    for group, (number, pixels) in enumerate(size.crops):
        tokens = (pixels // size.patch) ** 2
        embedding = patch_embedding(tokens, size.dims, size.patch)
        length = tokens if selfpatch else tokens + 1
        layers = vit_layers(length, size.dims, size.layers)
        images = number * size.batch
        teacher = images if selfpatch or group == 0 else 0
        total['backbone'] += images * (3 * layers + 2 * embedding)
        total['backbone'] += teacher * (layers + embedding)
        total['class head'] += (3 * images + teacher) * head
        if selfpatch:
            total['patch head'] += 4 * images * tokens * patch_head
            student = _aggregation(size, tokens, False, per_copy)
            targets = _aggregation(size, tokens, True, per_copy)
            total['aggregation'] += images * (3 * student + targets)
    return total


def mac_rows(size: Sizes) -> List[Tuple[str, Dict[str, int]]]:
    """Counts of the three kinds of step, by name."""
    return [
        ('DINO', step_macs(size, selfpatch=False)),
        ('SelfPatch', step_macs(size, selfpatch=True)),
        ('plain SelfPatch', step_macs(size, selfpatch=True, per_copy=True)),
    ]
