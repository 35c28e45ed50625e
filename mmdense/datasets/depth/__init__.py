"""datasets depth of mmdense."""
