"""structures of mmdense."""
