# Evaluation of the released weights, converted by
# tools/model_converters/convert_dpt.py; there is nothing to train.
_base_ = [
    '../../_base_/models/vit-hybrid-p16_dpt-depth.py',
    '../../_base_/datasets/kitti_eigen.py',
    '../../_base_/schedules/dpt_adam-20e_b16.py',
    '../../_base_/depth_runtime.py',
]

model = dict(
    decode_head=dict(
        output='inverse_affine',
        scale=6.016e-5,
        shift=5.79e-3,
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
param_scheduler = []
train_cfg = dict(max_epochs=0)
# of the script that the published line comes from
val_evaluator = dict(protocol='kitti_garg_full')
test_evaluator = val_evaluator
benchmark = dict(
    protocol='dpt-kitti-released',
    dataset='KITTI',
    split='Eigen test (652 with ground truth)',
    pretraining=dict(
        method='DPT',
        data='MIX 6',
        weights='dpt-kitti_vit-hybrid-p16',
    ),
)
