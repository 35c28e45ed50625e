"""Settings of every test."""

import os

# Set before torch starts its pool: OpenMP threads of tests that run beside
# each other wait on one another.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest
import torch
from mmengine.registry import DefaultScope

import mmdense  # noqa: F401  mends the stack before any toolbox comes

torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))


@pytest.fixture(autouse=True)
def _fresh_state() -> None:
    """Each test draws the same numbers and starts in no scope."""
    torch.manual_seed(0)
    DefaultScope._instance_dict.clear()
