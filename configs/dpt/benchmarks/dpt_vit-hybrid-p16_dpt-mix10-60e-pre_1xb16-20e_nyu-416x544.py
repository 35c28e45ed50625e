# NYU Depth V2 in metres, from the whole model of the relative training.
# scale and shift belong to the model that it starts from: give them with
# --cfg-options, tools/analysis_tools/fit_scale_shift.py finds them.
_base_ = [
    '../../_base_/models/vit-hybrid-p16_dpt-depth.py',
    '../../_base_/datasets/nyu_bts_list.py',
    '../../_base_/schedules/dpt_adam-20e_b16.py',
    '../../_base_/depth_runtime.py',
]

load_from = (
    'work_dirs/dpt_vit-hybrid-p16_dpt-mix3-60e-pre_1xb16-60e_mix10-384x384/'
    'iter_4320000.pth'
)
model = dict(
    decode_head=dict(
        output='inverse_affine',
        scale=None,
        shift=None,
        min_depth=1e-3,
        max_depth=10.0,
        valid_range=(1e-3, 10.0),
        loss_decode=[
            dict(type='mmdense.SILogLoss', variant='eigen_squared'),
            dict(
                type='mmdense.DepthGradientLoss',
                mode='multi_scale',
                loss_weight=0.5,
            ),
        ],
    ),
)
train_dataloader = dict(batch_size=16, num_workers=8)
default_hooks = dict(
    checkpoint=dict(save_best='nyu_eigen/abs_rel', rule='less'),
)
benchmark = dict(
    protocol='dpt-nyu-metric-20e',
    dataset='NYU Depth V2',
    split='test 654',
    pretraining=dict(
        method='DPT',
        epochs=60,
        data='MIX 6',
        config='dpt_vit-hybrid-p16_dpt-mix3-60e-pre_1xb16-60e_mix10-384x384',
    ),
)
