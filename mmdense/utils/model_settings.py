"""Settings of models that do not suit each use of them."""

from typing import Any


def forget_initial_weights(node: Any) -> None:
    """Drop every ``init_cfg`` that names a checkpoint.

    A test loads the whole model; the weights that its training started from
    need not be on the machine.

    Args:
        node (ConfigDict): Config of the model, changed in place.
    """
    if isinstance(node, dict):
        start = node.get('init_cfg')
        if isinstance(start, dict) and 'checkpoint' in start:
            node['init_cfg'] = None
        for value in node.values():
            forget_initial_weights(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            forget_initial_weights(value)
