"""utils compat of mmdense."""
