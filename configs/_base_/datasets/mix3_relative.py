# Relative depth on the three sets of the pre-stage and the ablation of DPT.
# Every set as a generic RGB-D folder:
#   data/<name>/train/images/**/*.jpg
#   data/<name>/train/depth/**/*.png   the same names; 8 or 16 bit, 0 = invalid
#   data/<name>/val/{images,depth}     the same
# Stored is inverse depth (disparity) for hrwsi and redweb, depth in any unit
# for blendedmvs. Neither the loss nor the metric sees the scale. Masks of a
# set (sky, outliers) are to be 0 in its depth maps. The paper makes the longer
# side 384 and crops 384x384, which does not fit; here the shorter side is 384,
# so that every crop is full.
train_pipeline = [
    dict(type='mmdense.LoadImage'),
    dict(type='mmdense.LoadDepth', allow_8bit=True),
    dict(
        type='mmdense.DPTResize',
        scale=(384, 384),
        mode='lower_bound',
        interpolation='bicubic',
    ),
    dict(type='mmseg.RandomCrop', crop_size=(384, 384)),
    dict(type='mmseg.RandomFlip', prob=0.5),
    dict(type='mmdense.PackDepthInputs'),
]
test_pipeline = [
    dict(type='mmdense.LoadImage'),
    dict(type='mmdense.LoadDepth', allow_8bit=True),
    dict(
        type='mmdense.DPTResize',
        scale=(384, 384),
        mode='minimal',
        interpolation='bicubic',
        # scored at the size of the truth
        depth=False,
        # as the authors of DPT: no rounding to 8 bits
        to_float32=True,
    ),
    dict(type='mmdense.PackDepthInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmdense.MixedDepth',
        # every set equally often
        dataset_weights=[1, 1, 1],
        datasets=[
            dict(
                type='mmdense.DepthFolder',
                data_root=f'data/{name}',
                data_prefix=dict(
                    img_path='train/images', depth_map_path='train/depth'
                ),
                stored=stored,
                depth_rescale_factor=factor,
                plausible_range=None,
                pipeline=train_pipeline,
            )
            for name, stored, factor in (
                ('hrwsi', 'inverse', 1 / 255),
                ('blendedmvs', 'depth', 1e-3),
                ('redweb', 'inverse', 1 / 255),
            )
        ],
    ),
)
val_dataloader = dict(
    # images differ in size
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdense.MixedDepth',
        datasets=[
            dict(
                type='mmdense.DepthFolder',
                data_root=f'data/{name}',
                data_prefix=dict(
                    img_path='val/images', depth_map_path='val/depth'
                ),
                stored=stored,
                depth_rescale_factor=factor,
                plausible_range=None,
                test_mode=True,
                pipeline=test_pipeline,
            )
            for name, stored, factor in (
                ('hrwsi', 'inverse', 1 / 255),
                ('blendedmvs', 'depth', 1e-3),
                ('redweb', 'inverse', 1 / 255),
            )
        ],
    ),
)
val_evaluator = dict(
    type='mmdense.DepthMetric',
    protocol='affine_ablation',
    datasets=['hrwsi', 'blendedmvs', 'redweb'],
)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
