"""testing of mmdense."""
