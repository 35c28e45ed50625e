"""datasets transforms of mmdense."""
