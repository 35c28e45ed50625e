import csv

import pytest

from mmdense.results.published import (
    FILE,
    find_key,
    find_tables,
    lines,
    published_rows,
    row_key,
    select_rows,
)
from mmdense.results.quoted import QUOTED, quoted_reason
from mmdense.utils.errors import UserValueError


def test_rows__hold_every_record_of_the_file():
    with FILE.open(encoding='utf-8', newline='') as stream:
        records = list(csv.DictReader(stream))
    rows = published_rows()
    assert len(rows) == len(records) == 639
    for row, record in zip(rows, records):
        assert row.printed == record['value']
        assert row.value == float(record['value'])
        assert row.method == record['method']
        assert row.owned_by_paper == bool(int(record['owned_by_paper']))
        assert (
            row.higher_is_better
            == {'1': True, '0': False, '': None}[record['higher_is_better']]
        )


def test_rows__known_numbers():
    (row,) = published_rows(
        table='SelfPatch:Table 1', owned=True, metric='mask_AP75'
    )
    assert (row.value, row.unit) == (40.8, 'points')
    (row,) = [
        r
        for r in published_rows('localglobal', metric='RMSE', owned=True)
        if (r.backbone, r.head_or_protocol) == ('ViT-B/16', 'UPerNet')
    ]
    assert row.value == 0.526
    assert row.higher_is_better is False


def test_keys__one_line_each_and_every_metric_once():
    found = lines()
    assert sum(len(rows) for rows in found.values()) == 639
    for key, rows in found.items():
        metrics = [row.metric for row in rows]
        assert len(set(metrics)) == len(metrics), key
        assert {row_key(row) for row in rows} == {key}
        assert key == key.lower()


def test_keys__head_and_setting_only_where_needed():
    key = 'selfpatch/table-1/dino-selfpatch/vit-s-16/coco-2017'
    assert len(lines()[key]) == 6
    assert 'localglobal/table-1/localglobal/vit-s-16/ade20k/linear' in lines()
    assert (
        'selfpatch/table-6/dino-selfpatch/vit-ti-16/davis-2017/'
        'lambda-0-1-batch-256' in lines()
    )


def test_find_key__part_exact_or_nearest():
    key = 'selfpatch/table-1/dino/vit-s-16/coco-2017'
    assert find_key(key) == key
    assert find_key('table-1/dino-selfpatch') == key.replace(
        '/dino/', '/dino-selfpatch/'
    )
    with pytest.raises(UserValueError, match='part of 2 rows'):
        find_key('localglobal/table-1/localglobal/vit-s-16/ade20k')
    with pytest.raises(UserValueError, match=r'Nearest: .*dino/vit-s-16'):
        find_key('selfpatch/table-1/dino/vit-s-61/coco-2017')


def test_find_tables__name_slug_part():
    assert find_tables(['SelfPatch:Table 1']) == ['SelfPatch:Table 1']
    assert find_tables(['selfpatch/table-2']) == ['SelfPatch:Table 2']
    assert len(find_tables(['table-1'])) == 4
    assert find_tables(['table-1'], 'DPT') == ['DPT:Table 1']
    assert len(find_tables([])) == len(
        {row.source_table for row in published_rows()}
    )
    with pytest.raises(UserValueError, match='selfpatch/table-1'):
        find_tables(['selfpatch/tabel-1'])
    with pytest.raises(UserValueError, match='No paper'):
        find_tables([], 'Self')


SELECTOR = {
    'Table': 'LocalGlobal:Table 2',
    'Method': 'LocalGlobal',
    'Backbone': 'ViT-S/16',
    'Dataset': 'NYU Depth V2',
    'Protocol': 'UPerNet',
}


def test_select__all_metrics_of_a_line():
    rows = select_rows(SELECTOR)
    assert [(r.metric, r.value) for r in rows] == [
        ('AbsRel', 0.122),
        ('RMSE', 0.549),
        ('delta1', 0.862),
    ]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'Protocol': None}, 'matches 2 lines'),
        ({'Backbone': 'ViT-S-16'}, r"'ViT-S/16'"),
        ({'Head': 'UPerNet'}, r"unknown keys \['Head'\]"),
        ({'Dataset': None}, r"missing keys \['Dataset'\]"),
    ],
)
def test_select__says_what_is_wrong(change, message):
    changed = {**SELECTOR, **change}
    changed = {k: v for k, v in changed.items() if v is not None}
    with pytest.raises(UserValueError, match=message):
        select_rows(changed)


def test_quoted__every_entry_is_of_some_row_and_of_no_own_one():
    rows = published_rows()
    for row in rows:
        assert not (row.owned_by_paper and quoted_reason(row))
    for entry in QUOTED:
        of_table = [r for r in rows if r.source_table.startswith(entry.table)]
        assert any(quoted_reason(r) == entry.reason for r in of_table), entry
        methods = {row.method for row in of_table}
        assert set(entry.methods) <= methods, entry
