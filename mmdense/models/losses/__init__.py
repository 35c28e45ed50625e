"""models losses of mmdense."""
