"""models selfsup of mmdense."""
