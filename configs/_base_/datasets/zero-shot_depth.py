# The six sets of zero-shot transfer; sets that are not there are left out
# with a warning. For tests of relative models only.
#   data/diw/{DIW_test.csv,DIW_test/*.thumb}
#   data/eth3d/<scene>/{images,ground_truth_depth}/dslr_images/*.JPG
#   data/sintel/training/{final,depth}/<scene>/*.{png,dpt}
#   data/kitti, data/nyu                     as in kitti_eigen, nyu_bts_list
#   data/tum/<sequence>/{rgb.txt,depth.txt,rgb,depth}
# Which frames the paper takes of KITTI and TUM (the "dynamic" sequences), the
# caps and the crops are not published; what the protocols do is a choice.
_resize = dict(
    type='mmdense.DPTResize',
    scale=(384, 384),
    mode='minimal',
    multiple=32,
    interpolation='bicubic',
    depth=False,
    # as the authors of DPT: no rounding to 8 bits
    to_float32=True,
)
_pack = dict(type='mmdense.PackDepthInputs')
test_dataloader = dict(
    # images differ in size
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmdense.MixedDepth',
        missing='skip',
        datasets=[
            dict(
                type='mmdense.DIW',
                data_root='data/diw',
                dataset_name='diw',
                test_mode=True,
                pipeline=[
                    dict(type='mmdense.LoadImage'),
                    _resize,
                    dict(
                        type='mmdense.PackDepthInputs',
                        meta_keys=(
                            'img_path',
                            'ori_shape',
                            'img_shape',
                            'pad_shape',
                            'scale_factor',
                            'dataset_name',
                            'sample_idx',
                            'depth_pairs',
                            'depth_pairs_size',
                        ),
                    ),
                ],
            ),
            dict(
                type='mmdense.ETH3DDepth',
                data_root='data/eth3d',
                dataset_name='eth3d',
                test_mode=True,
                pipeline=[
                    dict(type='mmdense.LoadImage'),
                    dict(type='mmdense.LoadETH3DDepth'),
                    _resize,
                    _pack,
                ],
            ),
            dict(
                type='mmdense.SintelDepth',
                data_root='data/sintel',
                dataset_name='sintel',
                test_mode=True,
                pipeline=[
                    dict(type='mmdense.LoadImage'),
                    dict(type='mmdense.LoadSintelDepth'),
                    _resize,
                    _pack,
                ],
            ),
            dict(
                type='mmdense.KITTIDepth',
                split='test',
                data_root='data/kitti',
                dataset_name='kitti',
                test_mode=True,
                pipeline=[
                    dict(type='mmdense.LoadImage'),
                    dict(
                        type='mmdense.LoadDepth', depth_rescale_factor=1 / 256
                    ),
                    _resize,
                    _pack,
                ],
            ),
            dict(
                type='mmdense.NYUDepth',
                split='test',
                data_root='data/nyu',
                dataset_name='nyu',
                test_mode=True,
                pipeline=[
                    dict(type='mmdense.LoadImage'),
                    dict(type='mmdense.LoadDepth', depth_rescale_factor=1e-3),
                    _resize,
                    _pack,
                ],
            ),
            dict(
                type='mmdense.TUMDepth',
                data_root='data/tum',
                dataset_name='tum',
                test_mode=True,
                pipeline=[
                    dict(type='mmdense.LoadImage'),
                    dict(
                        type='mmdense.LoadDepth', depth_rescale_factor=1 / 5000
                    ),
                    _resize,
                    _pack,
                ],
            ),
        ],
    ),
)
test_evaluator = [
    dict(type='mmdense.WHDRMetric', datasets=['diw']),
    dict(
        type='mmdense.DepthMetric',
        protocol='zero_shot_eth3d',
        datasets=['eth3d'],
    ),
    dict(
        type='mmdense.DepthMetric',
        protocol='zero_shot_sintel',
        datasets=['sintel'],
    ),
    dict(
        type='mmdense.DepthMetric',
        protocol='zero_shot_kitti',
        datasets=['kitti'],
    ),
    dict(
        type='mmdense.DepthMetric', protocol='zero_shot_nyu', datasets=['nyu']
    ),
    dict(
        type='mmdense.DepthMetric', protocol='zero_shot_tum', datasets=['tum']
    ),
]
del _resize, _pack
