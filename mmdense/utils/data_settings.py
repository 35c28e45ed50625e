"""Settings of data sets inside the wrappers that configs put round them."""

from typing import Any, Dict, List


def inner_datasets(dataset: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Data sets inside those that repeat, concatenate or mix them.

    Args:
        dataset (dict): Config of a data set, as of a data loader.

    Returns:
        List[dict]: The innermost ones in their order, ``[dataset]`` if it
        wraps none.
    """
    inner = dataset.get('dataset', dataset.get('datasets'))
    if inner is None:
        return [dataset]
    parts = inner if isinstance(inner, (list, tuple)) else [inner]
    return [found for part in parts for found in inner_datasets(part)]


def repeats(dataset: Dict[str, Any]) -> int:
    """How often an epoch of a data set passes over its samples.

    Args:
        dataset (dict): Config of a data set.

    Returns:
        int: Product of the ``times`` of its wrappers, 1 without one.
    """
    if 'dataset' not in dataset:
        return 1
    return dataset.get('times', 1) * repeats(dataset['dataset'])
