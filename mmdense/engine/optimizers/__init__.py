"""engine optimizers of mmdense."""
