"""models necks of mmdense."""
