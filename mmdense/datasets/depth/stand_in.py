"""What takes the place of a validation image that cannot be used."""

from typing import Any, Dict

import torch
from mmengine.structures import BaseDataElement, PixelData

from .errors import BadSampleError


def stand_in(
    sample: Any, info: Dict[str, Any], error: BadSampleError
) -> Dict[str, Any]:
    """Another sample without truth, which metrics count as skipped.

    Args:
        sample (dict): Packed sample of another image; changed in place.
        info (dict): Data info of the one that cannot be used; its values
            replace those of the meta information.
        error (BadSampleError): What is wrong with it.

    Returns:
        dict: The sample; ``gt_depth_map`` is 0 everywhere and ``unusable``
        is the message of the error.

    Raises:
        BadSampleError: ``error``, if the sample holds another truth than a
            depth map and would be scored.
    """
    packed: Any = sample.get('data_samples') if isinstance(sample, dict) else 0
    names = packed.keys() if isinstance(packed, BaseDataElement) else ()
    if [name for name in names if name.startswith('gt_')] != ['gt_depth_map']:
        raise error
    depth = torch.zeros_like(packed.gt_depth_map.data)
    packed.gt_depth_map = PixelData(data=depth)
    known = {k: info[k] for k in packed.metainfo_keys() if k in info}
    packed.set_metainfo({**known, 'unusable': str(error)})
    return sample
