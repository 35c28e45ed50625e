"""Named protocols of :class:`~.depth_metric.DepthMetric`."""

from typing import Any, Dict, Optional

from mmdense.utils.errors import UserValueError

from ..functional.depth import (
    ALIGNMENTS,
    CROPS,
    EXTRA_METRIC_NAMES,
    METRIC_NAMES,
    NYU_SIZE,
)

_KITTI: Dict[str, Any] = dict(min_depth=1e-3, max_depth=80.0, kb_crop=True)
# Least squares in inverse depth is published. What DPT does not give is a
# choice: caps of 10 m indoors, 80 m for KITTI, 72 m for ETH3D and Sintel; no
# crop; targets above 1 mm; alignment over all scored pixels of an image.
_ZERO_SHOT: Dict[str, Any] = dict(
    min_depth=1e-3,
    alignment='least_squares',
    alignment_space='inverse',
    prediction='inverse',
    metrics=('d1_error', *METRIC_NAMES),
)
_DEVIATION = 'abs_rel_dev_after_affine_alignment'
assert _DEVIATION in EXTRA_METRIC_NAMES

#: What each named protocol fixes. Depths in metres, both bounds excluded.
PROTOCOLS: Dict[str, Dict[str, Any]] = {
    'nyu_eigen': dict(
        min_depth=1e-3, max_depth=10.0, crop='nyu_eigen', gt_size=NYU_SIZE
    ),
    'fastdepth': dict(min_depth=1e-3, max_depth=None, gt_size=(224, 224)),
    'kitti_garg': dict(**_KITTI, crop='garg'),
    # BTS' script, of which DPT's line on KITTI comes
    'kitti_garg_full': dict(**_KITTI, crop='garg', garg_on='full'),
    'kitti_eigen': dict(**_KITTI, crop='kitti_eigen'),
    # the toolbox's range is 200 m in its configs, 80 m in its class; the
    # benchmark crop does nothing to its maps of 352x1216
    'cityscapes_garg_200': dict(min_depth=1e-3, max_depth=200.0, crop='garg'),
    'cityscapes_garg_80': dict(min_depth=1e-3, max_depth=80.0, crop='garg'),
    'zero_shot_nyu': dict(**_ZERO_SHOT, max_depth=10.0),
    'zero_shot_tum': dict(**_ZERO_SHOT, max_depth=10.0),
    'zero_shot_kitti': dict(**_ZERO_SHOT, max_depth=80.0),
    'zero_shot_eth3d': dict(**_ZERO_SHOT, max_depth=72.0),
    'zero_shot_sintel': dict(**_ZERO_SHOT, max_depth=72.0),
    # depth up to scale: no unit, no range
    'affine_ablation': dict(
        min_depth=1e-12,
        max_depth=None,
        alignment='least_squares',
        alignment_space='inverse',
        prediction='inverse',
        metrics=(_DEVIATION,),
    ),
}
DEFAULTS: Dict[str, Any] = dict(
    min_depth=1e-3,
    max_depth=None,
    crop='none',
    kb_crop=False,
    garg_on='kb',
    gt_size=None,
    alignment='none',
    alignment_space='depth',
    prediction='depth',
    metrics=METRIC_NAMES,
)
_CHOICES = {
    'crop': CROPS,
    'garg_on': ('kb', 'full'),
    'alignment': ALIGNMENTS,
    'alignment_space': ('depth', 'inverse'),
    'prediction': ('depth', 'inverse'),
}


def resolve(protocol: Optional[str], given: Dict[str, Any]) -> Dict[str, Any]:
    """Defaults, then the protocol, then what is given and does not clash.

    Args:
        protocol (str, optional): Key of :data:`PROTOCOLS`, or None.
        given (Dict[str, Any]): Arguments; None where left out.

    Returns:
        Dict[str, Any]: A value per key of :data:`DEFAULTS`.

    Raises:
        UserValueError: If a name is unknown or contradicts the protocol.
    """
    setting = dict(DEFAULTS)
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise UserValueError(
                f'DepthMetric: unknown protocol {protocol!r}, choose from '
                f'{tuple(PROTOCOLS)} or leave it out'
            )
        setting.update(PROTOCOLS[protocol])
    for name, value in given.items():
        if value is None:
            continue
        if protocol is not None and value != setting[name]:
            raise UserValueError(
                f'DepthMetric: protocol {protocol!r} fixes '
                f'{name}={setting[name]!r}, got {value!r}; leave protocol '
                'out to evaluate in a way of your own'
            )
        setting[name] = value
    for name, choices in _CHOICES.items():
        if setting[name] not in choices:
            raise UserValueError(
                f'DepthMetric: {name}={setting[name]!r}, choose from {choices}'
            )
    low, high = setting['min_depth'], setting['max_depth']
    if not 0 < low < (float('inf') if high is None else high):
        raise UserValueError(
            f'DepthMetric: min_depth={low} and max_depth={high} are no range '
            'above 0'
        )
    return setting
