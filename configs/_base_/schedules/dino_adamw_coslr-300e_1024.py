_base_ = './dino_adamw_coslr-200e_1024.py'

train_cfg = dict(max_epochs=300)
