"""Errors whose message is all that a user needs."""


class UserError(Exception):
    """A mistake in what the user gave: the tools print it without traceback.

    Subclasses also derive from the built-in error that code would catch.
    """


class UserValueError(UserError, ValueError):
    """A value in the config, or in the data, that cannot be used."""
