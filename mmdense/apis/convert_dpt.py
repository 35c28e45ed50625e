"""Convert DPT models between the official names, mmseg's, HF's and ours."""

import os
from pathlib import Path
from typing import Any, Dict, Optional

import torch

from mmdense.utils.checkpoint import CheckpointError, load_checkpoint_file
from mmdense.utils.checkpoint_keys import CheckpointKeyError, Coverage
from mmdense.utils.checkpoint_keys.dpt import (
    DPT_LAYOUTS,
    DPTState,
    read_dpt,
    write_dpt,
)
from mmdense.utils.checkpoint_keys.dpt_shapes import DPTSpec
from mmdense.version import __version__

# Layers that DPT taps, by depth of the ViT (isl-org/DPT, dpt/vit.py).
_TAPS = {12: [2, 5, 8, 11], 24: [5, 11, 17, 23]}


def load_dpt_file(path: str, trust: Optional[bool] = None) -> Any:
    """Load a ``.pt``, ``.pth``, ``.bin`` or ``.safetensors`` file.

    Args:
        path (str): Local file.
        trust (bool, optional): Allow files that hold more than data.

    Returns:
        Any: What the file holds.

    Raises:
        CheckpointError: If it cannot be read.
    """
    if not path.endswith('.safetensors'):
        return load_checkpoint_file(path, map_location='cpu', trust=trust)
    if not os.path.isfile(path):
        raise CheckpointError(f'No checkpoint at {path}.')
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f'{path} needs the package safetensors: pip install safetensors.'
        ) from error
    try:
        return load_file(path)
    except Exception as error:
        raise CheckpointError(
            f'{path} cannot be read ({error}). It is truncated or no '
            'safetensors file; fetch it again.'
        ) from error


def hf_config(spec: DPTSpec) -> Dict[str, Any]:
    """Options of ``transformers.DPTConfig`` for a model.

    Args:
        spec (DPTSpec): Kind and sizes.

    Returns:
        Dict[str, Any]: Options that differ from the defaults there or
        depend on the model. Heads of attention are taken as 64 wide, as in
        all released models.

    Raises:
        CheckpointKeyError: If the taps of a ViT of this depth are unknown.
    """
    if spec.layers not in _TAPS:
        raise CheckpointKeyError(
            f'DPT models have ViTs of {sorted(_TAPS)} layers, this one has '
            f'{spec.layers}: the taps are unknown.'
        )
    extra = 2 if spec.distilled else 1
    side = round((spec.positions - extra) ** 0.5)
    options: Dict[str, Any] = {
        'hidden_size': spec.width,
        'num_hidden_layers': spec.layers,
        'num_attention_heads': spec.width // 64,
        'intermediate_size': spec.hidden,
        'image_size': side * 16,
        'patch_size': 16,
        'backbone_out_indices': _TAPS[spec.layers],
        'neck_hidden_sizes': list(spec.levels),
        'fusion_hidden_size': spec.features,
        'readout_type': 'project' if spec.project else 'ignore',
        'layer_norm_eps': 1e-6,
        'use_batch_norm_in_fusion_residual': spec.norm,
        'use_bias_in_fusion_residual': spec.unit_bias,
    }
    if spec.hybrid:
        options.update(
            is_hybrid=True,
            reassemble_factors=[1, 1, 1, 0.5],
            neck_ignore_stages=[0, 1],
            backbone_featmap_shape=[1, 1024, side, side],
        )
    if spec.seg:
        options.update(num_labels=spec.head[4][0], use_auxiliary_head=spec.aux)
    return options


def _file(
    dpt: DPTState, entries: Dict[str, Any], layout: str, src: str
) -> Dict[str, Any]:
    if layout in ('official', 'hf'):
        return entries
    meta = {
        'mmdense_convert': __version__,
        'method': 'dpt',
        'source': os.path.basename(src),
        'source_layout': dpt.layout,
    }
    file: Dict[str, Any] = {'state_dict': entries, 'meta': meta}
    if layout == 'mmdense' and dpt.extra:
        # what the way back needs; nothing else reads it
        file['official_extra'] = {
            k: v.detach().clone().contiguous() for k, v in dpt.extra.items()
        }
    return file


def convert_dpt(
    src: str,
    dst: str,
    layout: Optional[str] = None,
    min_match: float = 1.0,
    trust: Optional[bool] = None,
) -> Coverage:
    """Convert a DPT model from any layout to another.

    Reads official files (``isl-org/DPT``, also MiDaS v2.1 and v3, wrapped in
    ``model`` or not), checkpoints of this package and of mmseg's
    ``DPTHead``, and state dicts of Hugging Face's ``DPTForDepthEstimation``
    and ``DPTForSemanticSegmentation``. Position embeddings stay as they are.

    Args:
        src (str): File to read.
        dst (str): File to write; folders are made.
        layout (str, optional): ``'mmdense'``, ``'official'``, ``'mmseg'``
            or ``'hf'``. Defaults to None: ours, or the official one if
            ``src`` is ours.
        min_match (float): Smallest share of the model's values that must be
            there, 0 to 1. Defaults to 1.0.
        trust (bool, optional): Allow files that hold more than data.

    Returns:
        Coverage: What was found, in names of the layout that is written.

    Raises:
        CoverageError: If less than ``min_match`` is there; nothing is
            written then.
        CheckpointKeyError: If it is no DPT model, or the layout cannot hold
            it.
    """
    if os.path.abspath(src) == os.path.abspath(dst):
        raise CheckpointKeyError(f'SRC and DST are the same file: {src}.')
    if layout is not None and layout not in DPT_LAYOUTS:
        raise CheckpointKeyError(
            f'Unknown layout {layout!r}; choose from {DPT_LAYOUTS}.'
        )
    dpt = read_dpt(load_dpt_file(src, trust))
    if layout is None:
        layout = 'official' if dpt.layout == 'mmdense' else 'mmdense'
    found, coverage = write_dpt(dpt, layout)
    print(f'{src}: {dpt.layout} names, {dpt.spec.name}')
    print(coverage.table())
    if layout == 'mmdense' and dpt.extra:
        print(
            'Dropped entries have no effect on the output (final norm and '
            'classifier of the ViT, first unit of the coarsest fusion). The '
            "file keeps them as 'official_extra' for the way back."
        )
    for note in dpt.notes:
        print(note)
    if layout == 'mmseg':
        print(
            "mmseg's DPTHead does not enlarge its logits by 2 with "
            'align_corners=True before the resize to the image: outputs '
            'differ slightly. It has no auxiliary output of this kind.'
        )
    coverage.check(min_match)
    entries = {
        key: value.detach().clone().contiguous()
        for key, value in found.items()
    }
    Path(dst).parent.mkdir(parents=True, exist_ok=True)
    torch.save(_file(dpt, entries, layout, src), dst)
    size = os.path.getsize(dst) / 2**20
    print(
        f'Wrote {dst}: {layout} names, {len(entries)} tensors, {size:.1f} MiB'
    )
    if layout == 'hf' and dpt.spec.layers in _TAPS:
        options = ', '.join(
            f'{k}={v!r}' for k, v in hf_config(dpt.spec).items()
        )
        print(f'For transformers: DPTConfig({options})')
    return coverage
