"""Every registered component: builds, trains, round-trips, is documented.

A new component is picked up by itself. Model components need a recipe in
``mmdense/testing/components.py``, everything needs a docstring.
"""

import ast
import inspect
import re

import pytest
import torch

import mmdense
from mmdense import registry as registries
from mmdense.registry import OPTIONAL_LOCATIONS, toolbox_installed
from mmdense.testing.components import RECIPES, build_component
from mmdense.testing.launch import ROOT
from mmdense.testing.tiny import tensors_of

SWEPT = [
    value
    for value in vars(registries).values()
    if isinstance(value, registries.Registry)
]


def _own(registry):
    registry.import_from_location()
    # tests register classes too
    return {
        name: cls
        for name, cls in registry.module_dict.items()
        if cls.__module__.startswith('mmdense.')
    }


COMPONENTS = sorted(_own(registries.MODELS))
REGISTERED = sorted(
    {
        (registry.name, name): cls
        for registry in SWEPT
        for name, cls in _own(registry).items()
    }.items()
)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_recipes__every_registered_component_has_one():
    missing = sorted(set(COMPONENTS) - set(RECIPES))
    assert not missing, (
        f'{missing} are registered in MODELS and have no recipe in '
        'mmdense/testing/components.py'
    )


def test_recipes__none_is_left_over():
    if any(not toolbox_installed(t) for t, _ in OPTIONAL_LOCATIONS.values()):
        pytest.skip('a toolbox is missing')
    assert sorted(set(RECIPES) - set(COMPONENTS)) == []


def _run(name, module, seed=1):
    recipe = RECIPES[name]
    torch.manual_seed(seed)
    inputs = recipe.inputs(module)
    return inputs, dict(tensors_of(recipe.call(module, *inputs)))


def _swept(name):
    if name not in RECIPES:
        pytest.fail(f'{name} has no recipe in mmdense/testing/components.py')
    return build_component(name)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('name', COMPONENTS)
def test_component__trains(name, precision):
    module = _swept(name)
    with torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bf16'):
        inputs, outputs = _run(name, module)
        # squares: the sum of a normalised output has no gradient
        losses = [
            (value.float() ** 2).mean()
            for value in outputs.values()
            if value.requires_grad
        ]
    assert losses, f'no output of {name} has a gradient'
    for path, value in outputs.items():
        assert torch.isfinite(value).all(), f'{name}{path} is not finite'
    sum(losses).backward()
    parameters = {
        path: value
        for path, value in module.named_parameters()
        if value.requires_grad  # a teacher's do not
    }
    leaves = {
        path: value
        for path, value in tensors_of(inputs)
        if value.requires_grad and value.is_leaf
    }
    assert parameters or leaves
    for path, value in {**parameters, **leaves}.items():
        assert value.grad is not None, f'{name}: no gradient for {path}'
        assert torch.isfinite(value.grad).all(), f'{name}: {path}'
    some = [v for v in {**parameters, **leaves}.values() if v.grad.any()]
    assert some, f'{name}: every gradient is zero'


@pytest.mark.parametrize('name', COMPONENTS)
def test_component__state_dict_round_trip(name):
    first = _swept(name)
    with torch.no_grad():
        _run(name, first, seed=2)  # moves running statistics
    second = build_component(name, seed=7)
    result = second.load_state_dict(first.state_dict(), strict=True)
    assert not result.missing_keys and not result.unexpected_keys
    outputs = []
    for module in (first.eval(), second.eval()):
        with torch.no_grad():
            outputs.append(_run(name, module)[1])
    assert outputs[0].keys() == outputs[1].keys()
    for path, value in outputs[0].items():
        torch.testing.assert_close(
            value, outputs[1][path], rtol=0, atol=0, equal_nan=True
        )


def _arguments(doc):
    """Names under ``Args:``, in order."""
    section = re.search(
        r'^([ ]*)(?:Args|Arguments|Attributes):\n(.*?)(?=^\1\S|\Z)',
        inspect.cleandoc(doc or ''),
        re.M | re.S,
    )
    if section is None:
        return set()
    return set(re.findall(r'^ {4}\**(\w+)', section[2], re.M))


@pytest.mark.parametrize(
    'cls', [cls for _, cls in REGISTERED], ids=[n for (_, n), _ in REGISTERED]
)
def test_registered__docstring_names_every_argument(cls):
    assert cls.__doc__, f'{cls.__name__} has no docstring'
    init = vars(cls).get('__init__') if inspect.isclass(cls) else cls
    if init is None:
        return
    documented = _arguments(cls.__doc__)
    parameters = inspect.signature(init).parameters
    undocumented = [
        p.name
        for p in parameters.values()
        if p.name != 'self'
        and p.kind is not p.VAR_POSITIONAL
        and p.name not in documented
        # naming what is passed on is better than "kwargs"
        and not (p.kind is p.VAR_KEYWORD and documented - set(parameters))
    ]
    assert not undocumented, (
        f'{cls.__name__}: Args of the docstring lack {undocumented}'
    )


def _public_nodes():
    """(where, node) of each public module, class, function and method."""
    package = ROOT / 'mmdense'
    for path in sorted(package.rglob('*.py')):
        if '.mim' in path.parts:
            continue
        where = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text(encoding='utf-8'))
        yield where, tree
        stack = [(where, node) for node in tree.body]
        while stack:
            prefix, node = stack.pop()
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            if node.name.startswith('_'):
                continue
            name = f'{prefix}:{node.name}'
            yield name, node
            if isinstance(node, ast.ClassDef):
                stack += [(name, child) for child in node.body]


def _is_overload(node):
    names = [getattr(d, 'id', '') for d in getattr(node, 'decorator_list', [])]
    return 'overload' in names


def test_public__docstrings():
    nodes = [(w, n) for w, n in _public_nodes() if not _is_overload(n)]
    bare = [where for where, node in nodes if not ast.get_docstring(node)]
    top = [
        where
        for where, node in nodes
        if not ast.get_docstring(node)
        and (isinstance(node, ast.Module) or where.count(':') == 1)
    ]
    share = 1 - len(bare) / len(nodes)
    assert share >= 0.9, f'{share:.1%} documented; without: {bare}'
    assert not top, f'modules, classes and functions without: {top}'


def test_version__is_exported():
    assert mmdense.__version__
