# The ablations on COCO: 5e-4 at a total batch of 256.
_base_ = './dino_adamw_coslr-200e_1024.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4))
auto_scale_lr = dict(base_batch_size=256)
