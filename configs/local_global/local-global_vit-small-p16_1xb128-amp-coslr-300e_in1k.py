# One GPU. The loss sees the same 128 images per device as the paper's 16
# GPUs do; the learning rate follows the same line through the origin:
# 8e-4 * 128 / 2048.
_base_ = ['./local-global_vit-small-p16_16xb128-amp-coslr-300e_in1k.py']

optim_wrapper = dict(optimizer=dict(lr=5e-5))
auto_scale_lr = dict(base_batch_size=128)
