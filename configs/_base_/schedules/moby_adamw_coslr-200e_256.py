# The ablations on COCO: 5e-4 at a total batch of 256.
_base_ = './moby_adamw_coslr-300e_512.py'

optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_epochs=200)
auto_scale_lr = dict(base_batch_size=256)
