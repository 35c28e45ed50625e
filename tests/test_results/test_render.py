import csv
import io
from html.parser import HTMLParser

import pytest
import yaml
from mmengine.config import Config

from mmdense.results.compare import compare
from mmdense.results.config_hash import config_hash
from mmdense.results.render import render
from mmdense.results.rows import RunRow
from mmdense.results.zoo import Zoo

TABLE = 'SelfPatch:repository README, segmentation'
CONFIG = """
model = dict(type='M')
benchmark = dict(protocol='fpn-40k', dataset='ADE20K', split='val')
"""
NAMES = {'DINO': 'fpn_dino', 'DINO + SelfPatch': 'fpn_selfpatch'}


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / 'configs' / 'm' / 'benchmarks'
    folder.mkdir(parents=True)
    entries = []
    for method, name in NAMES.items():
        (folder / f'{name}.py').write_text(CONFIG)
        selector = {
            'Table': TABLE,
            'Method': method,
            'Backbone': 'ViT-S/16',
            'Dataset': 'ADE20K',
            'Protocol': 'Semantic FPN',
        }
        entries.append(
            {
                'Name': name,
                'Config': f'configs/m/benchmarks/{name}.py',
                'Reproduces': [selector],
            }
        )
    (folder.parent / 'metafile.yml').write_text(
        yaml.safe_dump({'Models': entries})
    )
    cfg = Config.fromfile(str(folder / 'fpn_dino.py'))
    values = [('fpn_dino', 39.0, 0), ('fpn_dino', 39.6, 1)]
    values += [('fpn_selfpatch', 50.0, 0)]
    runs = [
        RunRow(
            config=name,
            config_hash=config_hash(cfg),
            training_hash=config_hash(cfg, test=False),
            training={'world_size': 8, 'batch_size': 2},
            initial_weights='a.pth',
            finished=True,
            weights_hash=f'{name}{seed}',
            protocol='fpn-160k' if value == 50 else 'fpn-40k',
            dataset='ADE20K',
            split='val',
            metrics={'mIoU': value},
            units={'mIoU': '%'},
        )
        for name, value, seed in values
    ]
    return compare(TABLE, Zoo(tmp_path), runs)


MARKDOWN = """\
## SelfPatch:repository README, segmentation

Semantic segmentation, ADE20K. Cells: published, and where measured: \
published → mean of the runs ± standard deviation (difference). \
1 of 4 rows measured.

| Method | Backbone | Head | Setting | mIoU (%) ↑ | Protocol | Runs | Config |
|---|---|---|---|---|---|---|---|
| DINO | ViT-S/16 | Semantic FPN | 40k iterations | 38.3 → 39.3 ± 0.4 (+1.0) \
| fpn-40k | 2 | [fpn_dino](../configs/m/benchmarks/fpn_dino.py) |
| DINO + SelfPatch | ViT-S/16 | Semantic FPN | 40k iterations | 41.2 \
| fpn-40k | refused | [fpn_selfpatch](../configs/m/benchmarks/\
fpn_selfpatch.py) |
| DINO | ViT-S/16 | UPerNet | 160k iterations | 42.3 |  |  | no config |
| DINO + SelfPatch | ViT-S/16 | UPerNet | 160k iterations | 43.2 \
|  |  | no config |

Notes:

- DINO ViT-S/16, DINO + SelfPatch ViT-S/16: repository alinlab/SelfPatch, \
not a paper table
- not compared: fpn_selfpatch: other protocol (fpn-160k)
"""


def test_markdown__is_the_text_written_by_hand(results):
    assert render([results], 'markdown', '../') == MARKDOWN


def test_csv__a_line_for_each_number(results):
    text = render([results, results], 'csv')
    rows = list(csv.DictReader(io.StringIO(text)))
    # one header for several tables
    assert len(rows) == 8
    first = rows[0]
    assert first['published'] == '38.3'
    assert float(first['measured']) == 39.3
    assert (first['runs'], first['best']) == ('2', '39.6')
    assert first['protocol'] == 'fpn-40k'
    assert first['config'] == 'configs/m/benchmarks/fpn_dino.py'
    assert rows[1]['measured'] == ''
    assert 'other protocol (fpn-160k)' in rows[1]['notes']
    assert rows[3]['config'] == ''


class Cells(HTMLParser):
    """Cells of the tables as (class, text)."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], 0

    def handle_starttag(self, tag, attrs):
        if tag == 'td':
            self.found.append([dict(attrs).get('class'), ''])
        self.open += tag not in ('meta',)

    def handle_endtag(self, tag):
        self.open -= 1

    def handle_data(self, data):
        if self.found:
            self.found[-1][1] += data


def test_html__colours_links_and_closed_tags(results):
    text = render([results], 'html')
    cells = Cells()
    cells.feed(text)
    assert cells.open == 0
    coloured = [cell for cell in cells.found if cell[0]]
    assert [cell[0] for cell in coloured] == ['better']
    assert '39.3 ± 0.4' in coloured[0][1]
    assert 'href="configs/m/benchmarks/fpn_dino.py"' in text


def test_cells__worse_and_equal(results):
    for published, kind in ((39.5, 'worse'), (39.3, 'equal')):
        row = (
            results[0]
            .rows[0]
            ._replace(value=published, printed=str(published))
        )
        better = None if kind == 'equal' else False
        found = (
            results[0]
            .measured['mIoU']
            ._replace(difference=39.3 - published, better=better)
        )
        result = results[0]._replace(rows=(row,), measured={'mIoU': found})
        assert f'<td class="{kind}">{published} → 39.3' in render(
            [[result]], 'html'
        )


def test_html__text_is_escaped(results):
    row = results[0].rows[0]._replace(method='<b>', notes='a & b')
    changed = [results[0]._replace(rows=(row,))]
    text = render([changed], 'html')
    assert '<b>' not in text
    assert '&lt;b&gt;' in text
    assert 'a &amp; b' in text


def test_csv__notes_on_a_metric_stand_on_its_line(results, monkeypatch):
    row = results[0].rows[0]
    other = row._replace(metric='aAcc')
    monkeypatch.setattr('mmdense.results.render.row_key', lambda _: 'key')
    notes = ['fpn_dino: aAcc not finite (2 runs)', 'fpn_dino: started from x']
    result = results[0]._replace(rows=(row, other), notes=notes * 2)
    lines = render([[result]], 'csv')
    first, second = csv.DictReader(io.StringIO(lines))
    assert first['notes'] == f'{row.notes}; {notes[1]}'
    assert second['notes'] == f'{row.notes}; {notes[0]}; {notes[1]}'
