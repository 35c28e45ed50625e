"""visualization of mmdense."""
