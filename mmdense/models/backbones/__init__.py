"""models backbones of mmdense."""
