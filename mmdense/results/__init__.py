"""Published numbers, measured runs, and what belongs to what."""
