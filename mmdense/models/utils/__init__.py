"""models utils of mmdense."""
