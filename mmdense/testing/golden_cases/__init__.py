"""Replay functions of the golden cases.

A case is one function ``fn(case, arrays)`` that yields tuples ``(name, got,
expected, rtol, atol)``, and one line below. ``case`` is its entry of
``index.json``, ``arrays`` maps array names to numpy arrays. Shapes, seeds and
hyper-parameters come from these two, so that other folders of the same
layout replay too. A module may say which parts of a case it lacks:
``NOT_IMPLEMENTED = {'case': ('part', ...)}``.
"""

# case name: module of this package that has a function of that name
CASES = {
    'checkpoint_keys': 'backbones',
    'depth_losses': 'depth',
    'depth_metrics': 'depth',
    'dino_head': 'selfsup_parts',
    'dino_step': 'selfsup',
    'dino_vit': 'backbones',
    'dpt_full': 'dpt',
    'dpt_tiny': 'dpt',
    'moby': 'selfsup_parts',
    'pos_embed': 'backbones',
    'selfpatch_head': 'selfsup_parts',
    'selfpatch_step': 'selfsup',
    'selfpatch_vit': 'backbones',
}

__all__ = ['CASES']
