"""What a depth model gets of a sample."""

from typing import Any, Sequence

from mmseg.datasets.transforms import PackSegInputs

from mmdense.registry import TRANSFORMS

META_KEYS = (
    'img_path',
    'depth_map_path',
    'ori_shape',
    'img_shape',
    'pad_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'kb_crop',
    'dataset_name',
    'scene',
    'scene_label',
    'focal',
    'sample_idx',
)


@TRANSFORMS.register_module()
class PackDepthInputs(PackSegInputs):
    """``mmseg.PackSegInputs`` with the meta information of depth sets.

    Gives ``inputs`` (``(3, H, W)``) and ``data_samples`` with
    ``gt_depth_map`` (``(1, H, W)``, float32).

    Args:
        meta_keys (Sequence[str]): What to keep of the results, where it is
            there. Defaults to :data:`META_KEYS`: the files and sizes, the
            flip, ``kb_crop`` (window of ``mmdense.KBCrop``),
            ``dataset_name``, ``scene`` and ``scene_label`` (-1 = unknown),
            ``focal`` (pixels) and ``sample_idx``.
    """

    def __init__(self, meta_keys: Sequence[Any] = META_KEYS) -> None:
        super().__init__(meta_keys=tuple(meta_keys))
