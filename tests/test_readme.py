"""README's snippets work as they are written."""

import re
import subprocess
import sys

import pytest

from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT

README = (ROOT / 'README.md').read_text(encoding='utf-8')


@pytest.mark.slow
def test_snippet__backbone_in_a_stock_mmseg_config(tmp_path):
    if not toolbox_installed('mmseg'):
        pytest.skip('mmseg is not installed')
    found = re.search(
        r'<!-- test: readme-snippet -->\n```python\n(.*?)```', README, re.S
    )
    assert found is not None
    assert len(found[1].strip().splitlines()) == 5
    (tmp_path / 'config.py').write_text(found[1])
    code = """
import torch
from mmpretrain.models import VisionTransformer
net = VisionTransformer('deit-small', img_size=224, patch_size=16)
torch.manual_seed(0)
net.init_weights()
torch.save(net.state_dict(), 'backbone.pth')
from mmengine.config import Config
from mmengine.registry import init_default_scope
cfg = Config.fromfile('config.py')
init_default_scope(cfg.default_scope)
assert 'custom_imports' not in cfg
from mmengine.registry import MODELS
model = MODELS.build(cfg.model)
model.init_weights()
same = model.backbone.layers[3].attn.qkv.weight
assert torch.equal(same, net.layers[3].attn.qkv.weight)
with torch.no_grad():
    out = model.eval()(torch.zeros(1, 3, 512, 512), mode='tensor')
print(type(model).__name__, tuple(out.shape))
"""
    # the import that a user of the stand-in makes before stock mmseg
    prefix = 'import mmdense\n' if not _compiled_mmcv() else ''
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', prefix + code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith('EncoderDecoder (1, 150, 32, 32)')


def _compiled_mmcv() -> bool:
    from importlib.util import find_spec

    spec = find_spec('mmcv._ext')
    return spec is not None and str(spec.origin).endswith('.so')


def test_readme__every_path_exists():
    links = re.findall(r'\]\(((?!http)[^)#]+)\)', README)
    paths = re.findall(r'(?:configs|tools)/[\w./-]+\.(?:py|sh)', README)
    assert links and paths
    for name in links + paths:
        assert (ROOT / name).exists(), name


def test_readme__install_line_is_the_pinned_stack():
    pins = (ROOT / 'requirements/stack-modern.txt').read_text().split()
    for pin in pins:
        if '==' in pin:
            assert pin in README, pin


def test_readme__nothing_claims_to_be_measured():
    """Every result row is marked as the paper's until there is a log."""
    table = README.split('## Results')[1].split('##')[0]
    rows = [line for line in table.splitlines() if line.startswith('| ViT')]
    assert len(rows) == 3
    assert all(
        row.count('*paper*') == 4 and 'not measured' in row for row in rows
    )
