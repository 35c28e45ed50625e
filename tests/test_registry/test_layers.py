"""Who may import whom (floors of the package), and how long files are."""

import ast

import pytest

from mmdense.testing.launch import ROOT

PACKAGE = ROOT / 'mmdense'
MAX_LINES = 400
# file -> why it may be longer
LONG_FILES = {}

# Longest prefix counts. A module may import from lower floors and from its
# own room, an ``__init__`` also from the rooms inside its own.
FLOORS = {
    'mmdense': 0,
    'mmdense.registry': 1,
    'mmdense.structures': 1,
    'mmdense.utils': 1,
    'mmdense.version': 1,
    'mmdense.models': 2,
    'mmdense.models.utils': 1.5,
    'mmdense.models.backbones': 2,
    # what backbones give, which necks and heads take
    'mmdense.models.backbones.tokens': 1.5,
    'mmdense.models.necks': 2,
    'mmdense.models.heads': 2,
    'mmdense.models.losses': 2,
    'mmdense.datasets': 2,
    'mmdense.models.selfsup': 3,
    'mmdense.models.decode_heads': 3,
    'mmdense.models.depthers': 3,
    'mmdense.engine': 3,
    'mmdense.evaluation': 3,
    # functions of arrays, which hooks use too
    'mmdense.evaluation.functional': 2.5,
    # published numbers, runs, and what reproduces what
    'mmdense.results': 2.5,
    'mmdense.visualization': 3,
    'mmdense.apis': 4,
    'mmdense.testing': 5,
}
# what several methods are made of, and no method itself
METHOD_BASES = ('mmdense.models.selfsup.student_teacher',)
NEEDS_MMSEG = (
    'mmdense.models.decode_heads',
    'mmdense.models.depthers',
    'mmdense.datasets.depth',
)

PATHS = {
    '.'.join(path.relative_to(ROOT).with_suffix('').parts): path
    for path in sorted(PACKAGE.rglob('*.py'))
    if '.mim' not in path.parts
}
MODULES = {name.replace('.__init__', ''): p for name, p in PATHS.items()}


def _imports(module):
    """(imported module, whether at the top level) of a module's sources."""
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding='utf-8'))
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.walk(node)
    }
    package = module.split('.')
    if path.name != '__init__.py':
        package = package[:-1]
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                anchor = package[: len(package) - node.level + 1]
                base = '.'.join([*anchor, *([base] if base else [])])
            full = [f'{base}.{alias.name}' for alias in node.names]
            names = [f if f in MODULES else base for f in full]
        for name in names:
            yield name, node not in inside


def _room(module):
    while module not in FLOORS:
        module = module.rpartition('.')[0]
    return module


GRAPH = {module: list(_imports(module)) for module in MODULES}
every_module = pytest.mark.parametrize('module', sorted(MODULES))


@every_module
def test_imports__point_downwards(module):
    room = _room(module)
    is_init = MODULES[module].name == '__init__.py'
    wrong = []
    for name, _ in GRAPH[module]:
        if name.split('.')[0] != 'mmdense':
            continue
        target = _room(name)
        if target == 'mmdense':  # the package itself: its version
            continue
        own_child = is_init and name.startswith(f'{module}.')
        below = FLOORS[target] < FLOORS[room]
        ground = FLOORS[target] == FLOORS[room] == 1
        if not (target == room or own_child or below or ground):
            wrong.append(name)
    assert not wrong, f'{module} (floor {FLOORS[room]}) may not import {wrong}'


def test_imports__no_cycles():
    """Importing any module never comes back to it."""
    graph = {
        module: {
            name
            for name, top in GRAPH[module]
            if top and name in MODULES and not module.startswith(f'{name}.')
        }
        for module in MODULES
    }
    state, stack = {}, []

    def visit(module):
        state[module] = 'open'
        stack.append(module)
        for name in sorted(graph[module]):
            if state.get(name) == 'open':
                cycle = [*stack[stack.index(name) :], name]
                pytest.fail(f'cycle: {" -> ".join(cycle)}')
            if name not in state:
                visit(name)
        stack.pop()
        state[module] = 'done'

    for module in sorted(graph):
        if module not in state:
            visit(module)


@every_module
def test_imports__foreign_toolboxes(module):
    for name, top in GRAPH[module]:
        # the stand-in for mmcv's operators may look at them when asked to
        stand_in = module.startswith('mmdense.utils.mmcv_ext') and not top
        assert stand_in or not name.startswith('mmcv.ops'), (
            f'{module} imports {name}: a compiled mmcv may not be needed'
        )
        if module.startswith(('mmdense.testing', *NEEDS_MMSEG)):
            continue
        toolbox = name.split('.')[0]
        assert not (top and toolbox in ('mmseg', 'mmdet')), (
            f'{module} imports {toolbox} when it is imported itself; only '
            f'{NEEDS_MMSEG} may'
        )


@every_module
def test_imports__methods_and_losses_stand_alone(module):
    names = [name for name, _ in GRAPH[module]]
    is_init = MODULES[module].name == '__init__.py'
    if module.startswith('mmdense.models.selfsup.') and not is_init:
        others = [n for n in names if n.startswith('mmdense.models.selfsup.')]
        others = [n for n in others if n not in METHOD_BASES]
        assert not others, f'{module} reads another method: {others}'
    if module.startswith('mmdense.models.losses.'):
        runner = [n for n in names if n.startswith('mmengine.runner')]
        assert not runner, f'{module}: a loss knows no runner'


@pytest.mark.parametrize(
    'path',
    [
        pytest.param(path, id=str(path.relative_to(ROOT)))
        for folder in ('mmdense', 'tools')
        for path in sorted((ROOT / folder).rglob('*.py'))
        if '.mim' not in path.parts
    ],
)
def test_files__are_short(path):
    if str(path.relative_to(ROOT)) in LONG_FILES:
        pytest.skip(LONG_FILES[str(path.relative_to(ROOT))])
    lines = len(path.read_text(encoding='utf-8').splitlines())
    assert lines <= MAX_LINES, f'{lines} lines: split it'


def test_long_files__are_long():
    for name in LONG_FILES:
        lines = len((ROOT / name).read_text().splitlines())
        assert lines > MAX_LINES, f'{name} needs no exception any more'
