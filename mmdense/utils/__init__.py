"""utils of mmdense."""
