import pytest

from mmdense.utils import versions


@pytest.mark.parametrize(
    'text,numbers',
    [
        ('2.1.0', (2, 1, 0)),
        ('2.14.1+cpu', (2, 14, 1)),
        ('2.0.0rc4', (2, 0, 0)),
        ('1.2', (1, 2)),
    ],
)
def test_parse__versions(text, numbers):
    assert versions.parse(text) == numbers


def _fake(monkeypatch, **changed):
    good = {
        'torch': '2.14.1',
        'mmengine': '0.10.7',
        'mmcv': '2.1.0',
        'mmpretrain': '1.2.0',
        'mmseg': None,
        'mmdet': None,
    }
    good.update(changed)
    monkeypatch.delenv(versions.SKIP_VARIABLE, raising=False)
    monkeypatch.setattr(versions, 'version_of', good.get)


def test_check_stack__fits(monkeypatch, recwarn):
    _fake(monkeypatch)
    assert versions.check_stack() == []
    assert len(recwarn) == 0


def test_check_stack__too_old_is_an_error_with_the_command(monkeypatch):
    _fake(monkeypatch, mmengine='0.9.1', mmcv=None)
    with pytest.raises(versions.StackError) as info:
        versions.check_stack()
    text = str(info.value)
    assert 'mmengine 0.9.1 is older than 0.10.0' in text
    assert 'mmcv is not installed' in text
    assert "pip install 'mmengine==0.10.7' 'mmcv-lite==2.1.0'" in text


def test_check_stack__too_new_is_a_warning(monkeypatch):
    _fake(monkeypatch, mmcv='2.2.0')
    with pytest.warns(UserWarning, match='mmcv 2.2.0 was not tried'):
        assert len(versions.check_stack()) == 1


def test_check_stack__optional_toolboxes_may_be_absent_but_not_old(
    monkeypatch,
):
    _fake(monkeypatch, mmseg='1.0.0')
    with pytest.raises(versions.StackError, match='mmsegmentation==1.2.2'):
        versions.check_stack()


def test_check_stack__can_be_skipped(monkeypatch):
    _fake(monkeypatch, mmengine='0.1.0')
    monkeypatch.setenv(versions.SKIP_VARIABLE, '1')
    assert versions.check_stack() == []


def test_version_of__reads_what_is_installed():
    import mmengine

    assert versions.version_of('mmengine') == mmengine.__version__
    assert versions.version_of('no_such_package') is None
