# One GPU: 5e-4 * 128 / 256. A step of 1024 images takes
# optim_wrapper.accumulative_counts=8 and the 8-GPU config instead.
_base_ = ['./dino_vit-small-p16_8xb128-amp-coslr-300e_in1k.py']

optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
auto_scale_lr = dict(base_batch_size=128)
