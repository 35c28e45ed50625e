import os
import time
from pathlib import Path

import numpy as np
import pytest

from mmdense.datasets import UnlabeledImages, image_index
from mmdense.testing.distributed import run_distributed


def touch(root, *names, age=3600):
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')
    settle(root, age)


def settle(root, age=3600):
    """Make everything look as if it had been there for a while."""
    then = time.time() - age
    for folder, _, files in os.walk(root):
        os.utime(folder, (then, then))
        for name in files:
            os.utime(os.path.join(folder, name), (then, then))


def names(dataset, root):
    return [
        os.path.relpath(dataset.get_data_info(i)['img_path'], root)
        for i in range(len(dataset))
    ]


def test_paths__imagenet_layout_in_a_fixed_order(tmp_path):
    touch(tmp_path, 'n02/b.JPEG', 'n02/a.JPEG', 'n01/z.JPEG', 'n01/x.png')
    touch(tmp_path, 'top.jpg', 'notes.txt', '.hidden.jpg', '.git/c.jpg')
    expected = ['top.jpg', 'n01/x.png', 'n01/z.JPEG', 'n02/a.JPEG']
    dataset = UnlabeledImages(str(tmp_path))
    assert names(dataset, tmp_path) == [*expected, 'n02/b.JPEG']
    assert dataset.metainfo == dict(task_name='unlabeled_images')
    flat = UnlabeledImages(str(tmp_path), recursive=False)
    assert names(flat, tmp_path) == ['top.jpg']
    only = UnlabeledImages(str(tmp_path), extensions='PNG')
    assert names(only, tmp_path) == ['n01/x.png']


def test_paths__mixture_each_file_once(tmp_path):
    touch(tmp_path, 'a/1.jpg', 'a/2.jpg', 'b/3.jpg', 'b/4.txt', 'c/d/5.png')
    touch(tmp_path, 'odd.name')
    Path(tmp_path, 'list.txt').write_text(
        '# a comment\n\nb/3.jpg\n  a/1.jpg 17\nodd.name\nmissing one.jpg\n'
    )
    # 'b/*' matches 4.txt, which is not taken for a list
    dataset = UnlabeledImages(
        ['list.txt', 'a', '**/*.png', 'b/*', 'a/2.jpg'], str(tmp_path)
    )
    assert names(dataset, tmp_path) == [
        'b/3.jpg',
        'a/1.jpg',
        'odd.name',
        'missing one.jpg',
        'a/2.jpg',
        'c/d/5.png',
    ]


def test_read_list__root_and_labels(tmp_path):
    path = tmp_path / 'list.txt'
    path.write_bytes(
        b'\xef\xbb\xbfa.jpg\r\n/abs/b.jpg 3\nfolder 7/c.jpg\nd 2.jpg -1\n'
    )
    assert image_index.read_list(str(path), 'root') == [
        'root/a.jpg',
        '/abs/b.jpg',
        'root/folder 7/c.jpg',
        'root/d 2.jpg',
    ]
    assert image_index.read_list(str(path))[0] == str(tmp_path / 'a.jpg')


def test_paths__links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path / 'store', 'x.jpg')
    data = tmp_path / 'data'
    data.mkdir()
    (data / 'linked').symlink_to(tmp_path / 'store')
    (data / 'circle').symlink_to(data)
    assert names(UnlabeledImages(str(data)), data) == ['linked/x.jpg']


def test_paths__undecodable_file_names(tmp_path):
    raw = os.fsencode(str(tmp_path)) + b'/caf\xe9.jpg'
    try:
        Path(os.fsdecode(raw)).write_bytes(b'x')
    except OSError:
        pytest.skip('this file system takes UTF-8 names only')
    dataset = UnlabeledImages(
        str(tmp_path), cache_file=str(tmp_path / 'cache.npz')
    )
    assert os.fsencode(dataset.get_data_info(0)['img_path']) == raw


def test_paths__errors_name_the_place_and_what_is_there(tmp_path):
    touch(tmp_path, 'a/1.raw', 'a/2.TXT', 'a/none')
    with pytest.raises(FileNotFoundError) as caught:
        UnlabeledImages(str(tmp_path))
    for part in (str(tmp_path), '.jpg', '.raw', '.txt', '(none)'):
        assert part in str(caught.value)
    with pytest.raises(FileNotFoundError, match='nothing at .*absent'):
        UnlabeledImages(str(tmp_path / 'absent'))
    with pytest.raises(FileNotFoundError, match='nothing at'):
        UnlabeledImages('*.jpg', str(tmp_path))
    with pytest.raises(FileNotFoundError, match='empty'):
        UnlabeledImages([])
    touch(tmp_path, 'deep/er/1.jpg')
    with pytest.raises(FileNotFoundError, match='recursive=True'):
        UnlabeledImages(str(tmp_path / 'deep'), recursive=False)


@pytest.fixture()
def scans(monkeypatch):
    """Counts how often the disk is searched."""
    from mmdense.datasets import unlabeled_images

    counted = []
    stock = unlabeled_images.find_images

    def spy(*args):
        counted.append(args)
        return stock(*args)

    monkeypatch.setattr(unlabeled_images, 'find_images', spy)
    return counted


def test_cache__used_until_something_changes(tmp_path, scans):
    data, cache = tmp_path / 'data', str(tmp_path / 'sub' / 'index.npz')
    touch(data, 'a/1.jpg', 'a/2.jpg', 'list.txt')
    (data / 'list.txt').write_text('a/2.jpg\nb/far.jpg\n')
    settle(data)

    def load(**kwargs):
        paths = kwargs.pop('paths', [str(data), str(data / 'list.txt')])
        return names(UnlabeledImages(paths, cache_file=cache, **kwargs), data)

    expected = ['a/1.jpg', 'a/2.jpg', 'b/far.jpg']
    assert load() == expected and len(scans) == 1
    assert load() == expected and len(scans) == 1
    # other arguments
    assert load(recursive=False) == ['a/2.jpg', 'b/far.jpg']
    assert load(paths=str(data)) == ['a/1.jpg', 'a/2.jpg']
    assert len(scans) == 3
    # a new file in a folder below; a new line in the list
    load()
    count = len(scans)
    touch(data, 'a/3.jpg', age=1800)
    assert load() == ['a/1.jpg', 'a/2.jpg', 'a/3.jpg', 'b/far.jpg']
    (data / 'list.txt').write_text('a/2.jpg\n')
    settle(data, 900)
    assert load() == ['a/1.jpg', 'a/2.jpg', 'a/3.jpg']
    assert len(scans) == count + 2
    # the list is gone: an error, not the old index
    (data / 'list.txt').unlink()
    with pytest.raises(FileNotFoundError):
        load()


def test_cache__not_kept_for_folders_that_are_being_filled(tmp_path, scans):
    data, cache = tmp_path / 'data', tmp_path / 'index.npz'
    touch(data, '1.jpg', age=0)
    for _ in range(2):
        assert len(UnlabeledImages(str(data), cache_file=str(cache))) == 1
    assert len(scans) == 2 and not cache.exists()


@pytest.mark.parametrize('content', [b'', b'junk', None])
def test_cache__broken_file_is_made_anew(tmp_path, scans, content):
    data, cache = tmp_path / 'data', tmp_path / 'index.npz'
    touch(data, '1.jpg')
    if content is None:
        np.savez(cache, other=np.zeros(3))
    else:
        cache.write_bytes(content)
    for _ in range(2):
        assert len(UnlabeledImages(str(data), cache_file=str(cache))) == 1
    assert len(scans) == 1


def test_cache__that_cannot_be_written_is_not_fatal(tmp_path, monkeypatch):
    data = tmp_path / 'data'
    touch(data, '1.jpg')
    (tmp_path / 'file').write_text('')
    logged = []
    monkeypatch.setattr(
        image_index, 'print_log', lambda text, *a, **k: logged.append(text)
    )
    cache = tmp_path / 'file' / 'index.npz'  # below a file
    assert len(UnlabeledImages(str(data), cache_file=str(cache))) == 1
    assert 'cannot write' in logged[0]
    # fails when it is half written
    monkeypatch.setattr(
        image_index.np, 'savez', lambda *a, **k: (_ for _ in ()).throw(OSError)
    )
    cache = tmp_path / 'new' / 'index.npz'
    assert len(UnlabeledImages(str(data), cache_file=str(cache))) == 1
    assert list(cache.parent.iterdir()) == []


def build_on_rank(rank, world_size, data, cache):
    for _ in range(5):
        dataset = UnlabeledImages(data, cache_file=cache)
        if rank == 0 and os.path.exists(cache):
            os.unlink(cache)
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


@pytest.mark.dist
def test_cache__built_by_several_processes(tmp_path):
    data = tmp_path / 'data'
    touch(data, *[f'{i % 3}/{i:02d}.jpg' for i in range(30)])
    cache = str(tmp_path / 'index.npz')
    first, second = run_distributed(build_on_rank, 2, str(data), cache)
    assert first == second and len(first) == 30
    assert [p for p in tmp_path.iterdir() if 'tmp' in p.name] == []
