"""models depthers of mmdense."""
