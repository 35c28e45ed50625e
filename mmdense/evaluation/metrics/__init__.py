"""evaluation metrics of mmdense."""
