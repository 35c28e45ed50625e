"""The quickstart end to end, in its shortest form."""

import re

import pytest

from mmdense.registry import toolbox_installed
from mmdense.testing.launch import run_tool


@pytest.mark.slow
def test_quickstart__smoke(tmp_path):
    if not toolbox_installed('mmseg'):
        pytest.skip('mmseg is not installed')
    work = tmp_path / 'work'
    first = run_tool('quickstart.py', '--smoke', '--work-dir', work)
    for stage in (
        'pre-training',
        'export',
        'segmentation from pretrained',
        'segmentation from random',
        'depth from pretrained',
        'depth from random',
    ):
        assert f'{stage}: done in' in first.stdout
    page = (work / 'report.html').read_text()
    # 3 + 2 x 2 curves, 2 tasks x 4 rows x 4 pictures
    assert page.count('<img ') == 3 + 4 + 32
    assert not re.search(r'src="(?!data:)', page)
    for words in ('mIoU', 'abs_rel', 'torch', 'says nothing about'):
        assert words in page
    assert (work / 'report.md').is_file()
    # nothing is run twice
    second = run_tool('quickstart.py', '--smoke', '--work-dir', work)
    assert second.stdout.count('already done') == 6
    assert 'started' not in second.stdout
