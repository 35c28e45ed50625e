"""Defects of the stack that users should not have to know.

Each module here mends one of them. It checks that the defect is there, and
leaves everything alone where it is not.
"""

from . import checkpoint_loading, cpu_training, dataloader, hue, packages

_DONE = False


def install() -> None:
    """Install every fix; later calls do nothing."""
    global _DONE
    if _DONE:
        return
    _DONE = True
    for module in (
        checkpoint_loading,
        cpu_training,
        dataloader,
        hue,
        packages,
    ):
        module.install()


__all__ = ['install']
