# KITTI in metres, from the whole model of the relative training.
# scale and shift belong to the model that it starts from: give them with
# --cfg-options, tools/analysis_tools/fit_scale_shift.py finds them.
_base_ = [
    '../../_base_/models/vit-base-p16_dpt-depth.py',
    '../../_base_/datasets/kitti_eigen.py',
    '../../_base_/schedules/dpt_adam-20e_b16.py',
    '../../_base_/depth_runtime.py',
]

load_from = (
    'work_dirs/dpt_vit-base-p16_dpt-mix3-60e-pre_1xb16-60e_mix10-384x384/'
    'iter_4320000.pth'
)
model = dict(
    decode_head=dict(
        output='inverse_affine',
        scale=None,
        shift=None,
        min_depth=1e-3,
        max_depth=80.0,
        valid_range=(1e-3, 80.0),
        # no gradients: the ground truth is sparse
        loss_decode=dict(
            _delete_=True, type='mmdense.SILogLoss', variant='eigen_squared'
        ),
    ),
)
train_dataloader = dict(batch_size=16, num_workers=8)
# of the script that the published line comes from
val_evaluator = dict(protocol='kitti_garg_full')
test_evaluator = val_evaluator
default_hooks = dict(
    checkpoint=dict(save_best='kitti_garg_full/abs_rel', rule='less'),
)
benchmark = dict(
    protocol='dpt-kitti-metric-20e',
    dataset='KITTI',
    split='Eigen test',
    pretraining=dict(
        method='DPT',
        epochs=60,
        data='MIX 6',
        config='dpt_vit-base-p16_dpt-mix3-60e-pre_1xb16-60e_mix10-384x384',
    ),
)
