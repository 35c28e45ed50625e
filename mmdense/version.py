"""Version of mmdense (PEP 440 string)."""

__version__ = '0.1.0.dev0'
