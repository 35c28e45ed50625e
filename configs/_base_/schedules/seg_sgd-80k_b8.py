_base_ = ['./seg_sgd-160k_b16.py']

train_cfg = dict(max_iters=80000, val_interval=8000)
auto_scale_lr = dict(base_batch_size=8)
