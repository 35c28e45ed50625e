"""apis of mmdense."""
