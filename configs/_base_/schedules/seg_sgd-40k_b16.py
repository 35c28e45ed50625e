_base_ = ['./seg_sgd-160k_b16.py']

train_cfg = dict(max_iters=40000, val_interval=4000)
