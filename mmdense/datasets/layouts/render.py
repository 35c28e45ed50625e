"""Draw layouts, and say how to get the data."""

import importlib.util
from typing import Any, Dict, Iterable, List

from .parts import Layout


def tree(root: str, entries: Dict[str, str]) -> List[str]:
    """Draw paths as a tree.

    Args:
        root (str): First line.
        entries (Dict[str, str]): What is there, by path with ``/``.

    Returns:
        List[str]: Lines without line ends, texts in a column.
    """
    nodes: Dict[str, Any] = {}
    for path, text in entries.items():
        node = nodes
        *folders, leaf = path.split('/')
        for folder in folders:
            node = node.setdefault(folder + '/', {})
        node[leaf] = text
    lines: List[List[str]] = [[f'{root}/', '']]

    def draw(node: Dict[str, Any], lead: str) -> None:
        for i, (name, below) in enumerate(node.items()):
            last = i == len(node) - 1
            branch = '└── ' if last else '├── '
            leaf = not isinstance(below, dict)
            lines.append([lead + branch + name, below if leaf else ''])
            if not leaf:
                draw(below, lead + ('    ' if last else '│   '))

    draw(nodes, '')
    width = max(len(left) for left, _ in lines) + 2
    return [(left.ljust(width) + text).rstrip() for left, text in lines]


def fill_in(command: str) -> str:
    """Put the folders of the installed toolboxes into a command.

    Args:
        command (str): May hold ``$MMSEG`` and ``$MMDET``.

    Returns:
        str: Unchanged where a toolbox is not installed.
    """
    for name in ('mmseg', 'mmdet'):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            folder = list(spec.submodule_search_locations)[0]
            command = command.replace(f'${name.upper()}', folder)
    return command


def how_to_get(layout: Layout, step_name: str = '') -> str:
    """Say how to get a data set, or one part of it.

    Args:
        layout (Layout): The data set.
        step_name (str): Name of a step, '' for all. Defaults to ''.

    Returns:
        str: Lines of text.
    """
    steps = [s for s in layout.steps if step_name in ('', s.name)]
    lines = []
    if not step_name or any(s.name.startswith('get') for s in steps):
        page = f'{layout.page} ' if layout.page else ''
        lines.append(f'Get it: {page}({layout.access})')
    for step in steps:
        lines.append(step.text)
        lines += [f'    {fill_in(command)}' for command in step.commands]
    if layout.steps:
        lines.append(f'Where the configs look for it: {layout.root}')
    return '\n'.join(lines)


def as_text(layouts: Iterable[Layout]) -> str:
    """All layouts for the terminal.

    Args:
        layouts (Iterable[Layout]): Data sets.

    Returns:
        str: A block for each.
    """
    blocks = []
    for layout in layouts:
        head = f'{layout.name}: {layout.title} ({", ".join(layout.tasks)})'
        blocks.append('\n'.join([head, *tree(layout.root, layout.entries)]))
    return '\n\n'.join(blocks)


def as_markdown(layouts: Iterable[Layout]) -> str:
    """All layouts for the documentation.

    Args:
        layouts (Iterable[Layout]): Data sets.

    Returns:
        str: A section for each, with a final line end.
    """
    return '\n'.join(_section(layout) for layout in layouts)


def _section(layout: Layout) -> str:
    lines = [f'### {layout.name}: {layout.title}', '']
    source = f'[{layout.page}]({layout.page}), ' if layout.page else ''
    access = f'{source}{layout.access}'
    access = access[:1].upper() + access[1:]
    lines += [f'For {", ".join(layout.tasks)}. {access}.', '']
    lines += ['```text', *tree(layout.root, layout.entries), '```', '']
    for step in layout.steps:
        lines += [f'- **{step.name}**: {step.text}', '']
        if step.commands:
            lines += ['  ```bash']
            lines += [f'  {command}' for command in step.commands]
            lines += ['  ```', '']
    for note in layout.notes:
        lines += [note, '']
    readers = [f'`{name}`' for name in layout.stock]
    readers += [f'`configs/_base_/datasets/{n}`' for n in layout.configs]
    if readers:
        lines += [f'Read by {", ".join(readers)}.', '']
    return '\n'.join(lines)
