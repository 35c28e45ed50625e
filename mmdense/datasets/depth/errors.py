"""What can be wrong with a sample of a depth data set."""

from mmdense.utils.errors import UserError


class BadSampleError(UserError):
    """One sample cannot be used; the message names its file.

    Training goes on with another sample unless the data set is ``strict``.
    """


class MissingDepthError(BadSampleError, FileNotFoundError):
    """A folder, list or file of a depth data set that is not there."""


class DepthFileError(BadSampleError, RuntimeError):
    """A file of a depth data set is missing or cannot be read."""


class DepthSampleError(BadSampleError, ValueError):
    """Image and depth can be read, but a transform cannot use them."""
