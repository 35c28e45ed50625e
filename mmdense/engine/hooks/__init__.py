"""engine hooks of mmdense."""
