"""models heads of mmdense."""
