import math

import pytest
import torch

from mmdense.evaluation.functional.retrieval import (
    knn_classify,
    label_scores,
    patch_labels,
    patch_retrieval,
)


def _cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def _loop_knn(train_x, train_y, query, k, temperature, allowed=None):
    allowed = range(len(train_x)) if allowed is None else allowed
    pairs = [(_cosine(query, train_x[i]), int(train_y[i])) for i in allowed]
    votes = {}
    for similarity, label in sorted(pairs, key=lambda p: -p[0])[:k]:
        weight = math.exp(similarity / temperature)
        votes[label] = votes.get(label, 0) + weight
    return max(sorted(votes), key=votes.get) if votes else -1


def _data(count=40, tests=23, dims=5, classes=4):
    train_y = torch.arange(count) % classes
    centres = torch.randn(classes, dims)
    train_x = centres[train_y] + torch.randn(count, dims)
    test_x = centres[torch.arange(tests) % classes] + torch.randn(tests, dims)
    return train_x.double(), train_y, test_x.double()


@pytest.mark.parametrize('k', [1, 5, 100])
@pytest.mark.parametrize('temperature', [0.07, 1.0])
@pytest.mark.parametrize('chunk', [1, 7, 256])
def test_knn_classify__equals_a_loop(k, temperature, chunk):
    train_x, train_y, test_x = _data()
    got = knn_classify(train_x, train_y, test_x, k, temperature, chunk)
    wanted = [
        _loop_knn(train_x.tolist(), train_y, query, k, temperature)
        for query in test_x.tolist()
    ]
    assert got.tolist() == wanted
    assert len(set(wanted)) > 1


def test_knn_classify__nearer_neighbours_weigh_more():
    # two far votes for 1 against a near one for 0
    train_x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    train_y = torch.tensor([0, 1, 1])
    query = torch.tensor([[1.0, 0.2]])
    assert knn_classify(train_x, train_y, query, 3, 0.1).tolist() == [0]
    assert knn_classify(train_x, train_y, query, 3, 10.0).tolist() == [1]
    # exp(1 / 0.001) is beyond float32
    assert knn_classify(train_x, train_y, query, 3, 1e-3).tolist() == [0]


def test_knn_classify__own_group_does_not_vote():
    train_x, train_y, _ = _data()
    group = torch.arange(40) // 10
    got = knn_classify(
        train_x, train_y, train_x, 5, train_group=group, test_group=group
    )
    rows = train_x.tolist()
    wanted = [
        _loop_knn(
            rows,
            train_y,
            rows[i],
            5,
            0.07,
            [j for j in range(40) if j // 10 != i // 10],
        )
        for i in range(40)
    ]
    assert got.tolist() == wanted
    alone = torch.zeros(40, dtype=torch.long)
    got = knn_classify(
        train_x, train_y, train_x, 5, train_group=alone, test_group=alone
    )
    assert got.tolist() == [-1] * 40


@pytest.mark.parametrize(
    'change, message',
    [
        ({'train_y': torch.zeros(3, dtype=torch.long)}, r'\(M, D\) with'),
        ({'test_x': torch.zeros(2, 9)}, r'\(T, D\)'),
        ({'train_y': torch.full((40,), -1)}, 'at least 0'),
        ({'k': 0}, 'k must be'),
        ({'temperature': 0.0}, 'temperature must be'),
        ({'test_group': torch.zeros(23)}, 'neither'),
    ],
)
def test_knn_classify__refuses_what_does_not_fit(change, message):
    train_x, train_y, test_x = _data()
    given = {'train_x': train_x, 'train_y': train_y, 'test_x': test_x}
    with pytest.raises(ValueError, match=message):
        knn_classify(**{**given, **change})


def _loop_patch_labels(maps, hw, ignore):
    out = []
    for image in maps.tolist():
        height, width = len(image) // hw[0], len(image[0]) // hw[1]
        row = []
        for y in range(hw[0]):
            for x in range(hw[1]):
                pixels = [
                    image[y * height + i][x * width + j]
                    for i in range(height)
                    for j in range(width)
                ]
                known = sorted(p for p in pixels if p != ignore)
                row.append(max(known, key=known.count) if known else ignore)
        out.append(row)
    return out


@pytest.mark.parametrize('hw', [(2, 3), (4, 6), (8, 12), (1, 1)])
def test_patch_labels__equal_a_loop(hw):
    maps = torch.randint(0, 4, (3, 8, 12))
    maps[torch.rand(maps.shape) < 0.4] = 255
    maps[0, :4, :4] = 255
    got = patch_labels(maps.to(torch.uint8), hw)
    assert got.tolist() == _loop_patch_labels(maps, hw, 255)
    assert bool((got == 255).any()) == (hw != (1, 1))


def test_patch_labels__grid_has_to_divide():
    with pytest.raises(ValueError, match='3x2 patches'):
        patch_labels(torch.zeros(1, 8, 8, dtype=torch.long), (3, 2))
    with pytest.raises(ValueError, match='at least 0'):
        patch_labels(torch.full((1, 8, 8), -1), (2, 2))
    blank = patch_labels(torch.full((1, 4, 4), 255), (2, 2))
    assert blank.tolist() == [[255] * 4]


def test_label_scores__by_hand():
    labels = torch.tensor([0, 0, 0, 0, 2, 2])
    predicted = torch.tensor([0, 0, 0, -1, 2, 0])
    score = label_scores(predicted, labels)
    assert score.accuracy == pytest.approx(4 / 6)
    # class 1 does not occur
    assert score.mean_class_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert score.patches == 6
    assert score.most_frequent == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match='T at least 1'):
        label_scores(predicted[:0], labels[:0])


@pytest.mark.parametrize('same', [False, True])
def test_patch_retrieval__equals_a_loop_over_patches(same):
    train_x = torch.randn(4, 6, 5).double()
    train_y = torch.randint(0, 3, (4, 6))
    train_y[0, 0] = 255
    test_x, test_y = torch.randn(3, 6, 5).double(), torch.randint(0, 3, (3, 6))
    if same:
        test_x, test_y = train_x, train_y
    test_y = test_y.clone()
    test_y[1, 2] = 255
    right, by_class = [], {}
    for i in range(len(test_x)):
        for n in range(6):
            if test_y[i, n] == 255:
                continue
            rows = [
                (train_x[j, m].tolist(), int(train_y[j, m]))
                for j in range(len(train_x))
                for m in range(6)
                if train_y[j, m] != 255 and not (same and i == j)
            ]
            x, y = zip(*rows)
            label = _loop_knn(x, y, test_x[i, n].tolist(), 5, 0.07)
            right.append(label == int(test_y[i, n]))
            by_class.setdefault(int(test_y[i, n]), []).append(right[-1])
    score = patch_retrieval(
        train_x, train_y, test_x, test_y, k=5, same_images=same
    )
    assert score.patches == len(right)
    assert score.accuracy == pytest.approx(sum(right) / len(right))
    assert score.mean_class_accuracy == pytest.approx(
        sum(sum(r) / len(r) for r in by_class.values()) / len(by_class)
    )


def test_patch_retrieval__refuses_unlabelled_sets():
    x, y = torch.randn(2, 4, 3), torch.full((2, 4), 255)
    with pytest.raises(ValueError, match='ignore_index=255'):
        patch_retrieval(x, y, x, y)
    with pytest.raises(ValueError, match=r'\(I, N\)'):
        patch_retrieval(x, y[:, :3], x, y)
