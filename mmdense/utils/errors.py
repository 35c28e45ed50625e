"""Errors whose message is all that a user needs."""

import re


class UserError(Exception):
    """A mistake in what the user gave: the tools print it without traceback.

    Subclasses also derive from the built-in error that code would catch.
    """


class UserValueError(UserError, ValueError):
    """A value in the config, or in the data, that cannot be used."""


def message_of(error: Exception) -> str:
    """Message of an error, without what a data worker wraps around it.

    Args:
        error (Exception): As caught. torch gives an error of a worker again,
            with the worker's traceback for a message.

    Returns:
        str: What the error said where it was raised.
    """
    text = str(error)
    if not re.match(r'Caught \w+ .*\nOriginal Traceback', text):
        return text
    kind = type(error)
    name = f'\n{kind.__module__}.{kind.__qualname__}: '
    return text.rpartition(name)[2].strip()
