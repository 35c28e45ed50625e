"""utils mmcv_ext of mmdense."""
