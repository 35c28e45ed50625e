# Evaluation of the released weights, converted by
# tools/model_converters/convert_dpt.py; there is nothing to train.
_base_ = [
    '../../_base_/models/vit-hybrid-p16_dpt-depth.py',
    '../../_base_/datasets/nyu_bts_list.py',
    '../../_base_/schedules/dpt_adam-20e_b16.py',
    '../../_base_/depth_runtime.py',
]

model = dict(
    decode_head=dict(
        output='inverse_affine',
        scale=3.05e-4,
        shift=0.1378,
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
param_scheduler = []
train_cfg = dict(max_epochs=0)
benchmark = dict(
    protocol='dpt-nyu-released',
    dataset='NYU Depth V2',
    split='test 654',
    pretraining=dict(
        method='DPT',
        data='MIX 6',
        weights='dpt-nyu_vit-hybrid-p16',
    ),
)
