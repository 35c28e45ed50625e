# Second stage: ten data sets, from the whole model of the first. Its test is
# the zero-shot transfer to six other sets.
_base_ = [
    '../_base_/models/resnext101-32x8d_dpt-depth.py',
    '../_base_/datasets/mix10_relative.py',
    '../_base_/schedules/dpt_adam-60e_b16.py',
    '../_base_/depth_iter_runtime.py',
]

load_from = (
    'work_dirs/dpt_resnext101-32x8d_wsl-pre_1xb16-60e_mix3-384x384/'
    'iter_4320000.pth'
)
benchmark = dict(
    protocol='dpt-zero-shot',
    dataset={
        'DIW': 'whdr',
        'ETH3D': 'zero_shot_eth3d',
        'Sintel': 'zero_shot_sintel',
        'KITTI': 'zero_shot_kitti',
        'NYU Depth V2': 'zero_shot_nyu',
        'TUM': 'zero_shot_tum',
    },
    split='test',
    pretraining=dict(
        method='DPT',
        epochs=60,
        data='MIX 3',
        config='dpt_resnext101-32x8d_wsl-pre_1xb16-60e_mix3-384x384',
    ),
)
