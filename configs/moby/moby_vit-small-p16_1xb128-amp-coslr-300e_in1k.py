# One GPU: 1e-3 * 128 / 512.
_base_ = ['./moby_vit-small-p16_8xb64-amp-coslr-300e_in1k.py']

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
auto_scale_lr = dict(base_batch_size=128)
