"""evaluation functional of mmdense."""
