"""Where the configs of this package are."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def zoo_root() -> Path:
    """Folder that holds ``configs`` and ``model-index.yml``.

    Returns:
        Path: ``mmdense/.mim`` of the installed package, or the checkout
        that the package lies in.

    Raises:
        FileNotFoundError: If the installation has neither.
    """
    for root in (_PACKAGE / '.mim', _PACKAGE.parent):
        if (root / 'model-index.yml').is_file():
            return root
    raise FileNotFoundError(
        f'{_PACKAGE}/.mim is missing: mmdense was installed without its '
        'configs. Run: pip install --force-reinstall --no-deps mmdense '
        '(or pip install -e . in a checkout).'
    )
