"""Inference through the API and the command, against plain test runs."""

import json
import runpy
from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmdense.apis import DenseInferencer, running
from mmdense.apis.inference.files import (
    InferenceWriter,
    check_targets,
    coco_objects,
    find_images,
)
from mmdense.apis.inference.toolbox import dataset_meta, load_weights
from mmdense.registry import toolbox_installed
from mmdense.testing.launch import ROOT, run_tool
from mmdense.testing.tiny import build_model
from mmdense.utils.errors import UserValueError
from mmdense.utils.model_settings import forget_initial_weights

ROOMS = ROOT / 'demo' / 'data' / 'rooms'
IMAGES = sorted((ROOMS / 'val').glob('*.jpg'))[:3]
SEG = next(
    (ROOT / 'configs/local_global/benchmarks').glob('linear_vit-demo-*')
)
needs_mmseg = pytest.mark.skipif(
    not toolbox_installed('mmseg'), reason='mmseg is not installed'
)
needs_mmdet = pytest.mark.skipif(
    not toolbox_installed('mmdet'), reason='mmdet is not installed'
)
BOXES = ('bed', 'chair', 'sofa')


def _segmentation():
    cfg = Config.fromfile(SEG)
    cfg.model.backbone.arch = dict(
        embed_dims=16, num_layers=6, num_heads=2, feedforward_channels=16
    )
    cfg.model.decode_head.update(in_channels=16, channels=16)
    # names weights that nobody has: they are not needed
    cfg.model.backbone.init_cfg.checkpoint = 'nowhere.pth'
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.update(data_root=str(ROOMS), indices=3)
    return cfg


def _detection():
    base = "_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']"
    cfg = Config.fromstring(base, '.py')
    cfg.default_scope = 'mmdense'
    model = cfg.model
    model.backbone.update(
        depth=18, base_channels=8, norm_cfg=dict(type='BN'), init_cfg=None
    )
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    head = model.roi_head
    for part in ('bbox_roi_extractor', 'mask_roi_extractor'):
        head[part].out_channels = 16
    head.bbox_head.update(in_channels=16, fc_out_channels=16, num_classes=3)
    head.mask_head.update(in_channels=16, conv_out_channels=16, num_classes=3)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='mmdet.Resize', scale=(160, 120), keep_ratio=True),
        dict(type='mmdet.LoadAnnotations', with_bbox=True),
        dict(type='mmdet.PackDetInputs'),
    ]
    cfg.test_dataloader = dict(
        dataset=dict(
            type='mmdet.CocoDataset',
            ann_file='nowhere.json',
            metainfo=dict(classes=BOXES),
            pipeline=pipeline,
        )
    )
    return cfg


def _weights(cfg, path, meta=None):
    cfg = deepcopy(cfg)
    forget_initial_weights(cfg.model)
    model = build_model(cfg).eval()
    torch.save({'state_dict': model.state_dict(), 'meta': meta or {}}, path)
    return model


@pytest.fixture
def seg(tmp_path):
    cfg = _segmentation()
    _weights(cfg, tmp_path / 'seg.pth')
    cfg.dump(str(tmp_path / 'seg.py'))
    return tmp_path / 'seg.py', tmp_path / 'seg.pth'


@pytest.fixture
def det(tmp_path):
    cfg = _detection()
    _weights(cfg, tmp_path / 'det.pth')
    cfg.dump(str(tmp_path / 'det.py'))
    return tmp_path / 'det.py', tmp_path / 'det.pth'


def _runner_samples(cfg, weights, tmp_path):
    """Predictions of tools/test.py's runner on the first rooms."""
    cfg = deepcopy(cfg)
    cfg.work_dir, cfg.load_from = str(tmp_path / 'run'), str(weights)
    forget_initial_weights(cfg.model)
    for key in ('train', 'val'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            cfg.pop(f'{key}_{part}', None)
    cfg.pop('optim_wrapper', None)
    cfg.pop('param_scheduler', None)
    runner = running.build_runner(cfg)
    runner.load_or_resume()
    runner.model.eval()
    samples = []
    with torch.no_grad():
        for batch in runner.build_dataloader(cfg.test_dataloader):
            samples += runner.model.test_step(batch)
    return samples


@needs_mmseg
@pytest.mark.parametrize('batch_size', [1, 3])
def test_segmentation__label_maps_of_the_test_run(seg, tmp_path, batch_size):
    config, weights = seg
    expected = _runner_samples(_segmentation(), weights, tmp_path)
    model = DenseInferencer(str(config), str(weights), 'cpu')
    assert model.task == 'segmentation'
    found = model(IMAGES, batch_size=batch_size)
    assert len(found['predictions']) == len(expected) == 3
    assert found['skipped'] == [] and found['visualization'] == []
    for path, mine, sample in zip(IMAGES, found['predictions'], expected):
        assert sample.img_path == str(path)
        labels = mine.pred_sem_seg.data
        assert torch.equal(labels, sample.pred_sem_seg.data)
        assert labels.shape == (1, 240, 320) and labels.unique().numel() > 1
    assert len(model.dataset_meta['classes']) == 13
    assert model.dataset_meta['palette'][0] == (174, 199, 232)


@needs_mmdet
def test_detection__objects_of_the_model_itself(det, tmp_path):
    config, weights = det
    cfg = _detection()
    plain = _weights(cfg, tmp_path / 'same.pth')
    model = DenseInferencer(str(config), str(weights), 'cpu')
    assert model.dataset_meta['classes'] == BOXES
    for path in IMAGES[:2]:
        from mmdet.structures import DetDataSample

        bgr = cv2.imread(str(path))
        small = cv2.resize(bgr, (160, 120), interpolation=cv2.INTER_LINEAR)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(120, 160),
                ori_shape=(240, 320),
                scale_factor=(0.5, 0.5),
            )
        )
        image = torch.from_numpy(small.transpose(2, 0, 1).copy())
        with torch.no_grad():
            expected = plain.test_step(
                dict(inputs=[image], data_samples=[sample])
            )[0].pred_instances
        found = model(str(path), return_vis=True, score_thr=0.0)
        mine = found['predictions'][0].pred_instances
        assert len(mine) == len(expected) > 0
        assert torch.equal(mine.labels, expected.labels)
        assert torch.allclose(mine.bboxes, expected.bboxes, atol=1e-4)
        assert torch.equal(mine.masks, expected.masks)
        assert mine.masks.shape[1:] == (240, 320)
        drawn = found['visualization'][0]
        assert drawn.shape == (240, 320, 3) and drawn.dtype == np.uint8
        assert (drawn != bgr[..., ::-1]).any()


@needs_mmseg
def test_segmentation__arrays_files_and_bad_inputs(seg, tmp_path):
    model = DenseInferencer(*map(str, seg), 'cpu')
    bgr = cv2.imread(str(IMAGES[0]))
    cut = tmp_path / 'cut.jpg'
    cut.write_bytes(IMAGES[0].read_bytes()[:3000])
    text = tmp_path / 'text.png'
    text.write_text('no picture')
    floats = bgr.astype(np.float32)
    alpha = np.dstack([bgr, bgr[..., :1]])
    small = bgr[:96, :128]
    inputs = [str(IMAGES[0]), str(cut), bgr, small, text, floats, alpha]
    found = model([*inputs, bgr[..., 0]], batch_size=8)
    names = [name for name, _ in found['skipped']]
    assert names == [str(cut), str(text), 'array 5']
    reasons = [reason for _, reason in found['skipped']]
    assert 'truncated' in reasons[0] and 'not an image' in reasons[1]
    assert 'float32' in reasons[2]
    maps = [p and p.pred_sem_seg.data for p in found['predictions']]
    assert [m is None for m in maps] == [i in (1, 4, 5) for i in range(8)]
    assert torch.equal(maps[0], maps[2]) and torch.equal(maps[0], maps[6])
    assert maps[3].shape == (1, 96, 128) and maps[7].shape == (1, 240, 320)
    # a batch of other sizes changes nothing
    alone = model(small)['predictions'][0].pred_sem_seg.data
    assert torch.equal(maps[3], alone)


@needs_mmseg
@pytest.mark.parametrize('kind', ['grey', 'rgba', 'grey16', 'palette'])
def test_segmentation__pictures_of_all_kinds(seg, tmp_path, kind):
    """What OpenCV's colour flag makes of them, as the data pipelines do."""
    image = Image.open(IMAGES[0])
    path = tmp_path / f'{kind}.png'
    if kind == 'grey16':
        grey = np.asarray(image.convert('L')).astype(np.uint16) * 257
        cv2.imwrite(str(path), grey)
    else:
        mode = {'grey': 'L', 'rgba': 'RGBA', 'palette': 'P'}[kind]
        image.convert(mode).save(path)
    model = DenseInferencer(*map(str, seg), 'cpu')
    expected = model(cv2.imread(str(path), cv2.IMREAD_COLOR))['predictions']
    found = model(str(path), return_vis=True, opacity=0.0)
    assert found['skipped'] == []
    assert torch.equal(
        found['predictions'][0].pred_sem_seg.data,
        expected[0].pred_sem_seg.data,
    )
    assert found['visualization'][0].shape == (240, 320, 3)


@needs_mmseg
def test_inferencer__weights_of_another_model(seg, tmp_path):
    config, _ = seg
    other = _segmentation()
    other.model.decode_head.num_classes = 5
    _weights(other, tmp_path / 'other.pth')
    with pytest.raises(UserValueError, match='decode_head.conv_seg.weight'):
        DenseInferencer(str(config), str(tmp_path / 'other.pth'), 'cpu')
    torch.save({'cls_token': torch.zeros(1)}, tmp_path / 'backbone.pth')
    with pytest.raises(UserValueError, match='not that of the pre-training'):
        DenseInferencer(str(config), str(tmp_path / 'backbone.pth'), 'cpu')


@needs_mmseg
@pytest.mark.parametrize(
    'pattern,words',
    [
        ('uper-depth_vit-demo-*', 'estimates depth: tools/infer_depth.py'),
        ('../local-global_vit-demo-*', 'neither a segmentor'),
    ],
)
def test_inferencer__other_tasks_are_refused(pattern, words):
    config = next(SEG.parent.glob(pattern))
    with pytest.raises(UserValueError, match=words):
        DenseInferencer(str(config), 'any.pth')


@needs_mmseg
def test_segmentation__one_image_fails(seg, tmp_path, monkeypatch):
    """The others of its batch are predicted all the same."""
    model = DenseInferencer(*map(str, seg), 'cpu')
    bgr = cv2.imread(str(IMAGES[0]))
    bad = bgr.copy()
    bad[:] = 255
    forward = model._stock.forward

    def fails(data):
        if any(bool((image > 250).all()) for image in data['inputs']):
            raise RuntimeError('out of memory\nmore')
        return forward(data)

    monkeypatch.setattr(model._stock, 'forward', fails)
    found = model([bgr, bad, bgr], batch_size=3, return_vis=True)
    assert found['skipped'] == [('array 1', 'RuntimeError: out of memory')]
    kept = [p is not None for p in found['predictions']]
    assert kept == [v is not None for v in found['visualization']]
    assert kept == [True, False, True]
    monkeypatch.setattr(model._stock, 'visualize', lambda *_, **__: 1 / 0)
    found = model([bgr], return_vis=True)
    assert found['predictions'][0] is not None
    assert found['visualization'] == [None]
    assert 'ZeroDivisionError' in found['skipped'][0][1]


@needs_mmseg
def test_load_weights__positions_of_another_backbone(seg, tmp_path):
    config, weights = seg
    content = torch.load(weights, weights_only=True)
    content['state_dict']['backbone.pos_embed'] = torch.zeros(1, 24, 16)
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(UserValueError, match='do not fit the config'):
        DenseInferencer(str(config), str(tmp_path / 'other.pth'), 'cpu')


def test_load_weights__of_a_parallel_wrapper():
    source, target = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    state = {f'module.{k}': v for k, v in source.state_dict().items()}
    load_weights(target, {'state_dict': state})
    assert torch.equal(source.weight, target.weight)


@needs_mmseg
def test_dataset_meta__checkpoint_config_then_numbers():
    cfg = _segmentation()
    stored = {'classes': ('a', 'b'), 'palette': [(1, 2, 3), (4, 5, 6)]}
    found = dataset_meta({'meta': {'dataset_meta': stored}}, cfg, 2)
    assert found == stored
    found = dataset_meta({'meta': {'CLASSES': ('a', 'b')}}, cfg, 2)
    assert found['classes'] == ('a', 'b') and len(found['palette']) == 2
    assert dataset_meta({}, cfg, 13)['classes'][4] == 'bed'
    found = dataset_meta({}, cfg, 4)
    assert found['classes'][3] == 'class 3' and len(found['palette']) == 4


def test_find_images__names_do_not_collide(tmp_path):
    for name in ('a/x.jpg', 'a/x.png', 'b/x.jpg', 'b/c/y.PNG', 'b/note.txt'):
        path = tmp_path / 'in' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')
    folder = tmp_path / 'in'
    results = folder / 'out' / 'vis'
    results.mkdir(parents=True)
    (results / 'x.jpg').write_bytes(b'')
    found = find_images([str(folder)], str(folder / 'out'))
    names = [f'{folder}/{n}' for n in ('a/x.jpg', 'a/x.png')]
    assert found[names[0]] == 'a/x' and found[names[1]] == 'a/x_png'
    assert sorted(found.values()) == ['a/x', 'a/x_png', 'b/c/y', 'b/x']
    listed = find_images([f'{folder}/*/x.jpg', f'{folder}/b/x.jpg'])
    assert list(listed.values()) == ['a/x', 'b/x']
    one = find_images([f'{folder}/b/x.jpg'])
    assert list(one.values()) == ['x']
    with pytest.raises(UserValueError, match='Nothing at'):
        find_images([f'{folder}/missing'])
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts' / 'a.txt').write_text('')
    with pytest.raises(UserValueError, match='.txt'):
        find_images([str(tmp_path / 'texts')])


def _picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(IMAGES[0].read_bytes())
    return str(path)


def test_find_images__below_the_out_dir(tmp_path):
    """Results alone are left out, and said to be."""
    inside = _picture(tmp_path / 'out' / 'mine' / 'a.jpg')
    _picture(tmp_path / 'out' / 'vis' / 'b.jpg')
    _picture(tmp_path / 'out' / 'pred' / 'b.png')
    out = str(tmp_path / 'out')
    assert list(find_images([out], out)) == [inside]
    assert list(find_images([f'{out}/mine'], out)) == [inside]
    for text in (f'{out}/vis', f'{out}/vis/*.jpg'):
        with pytest.raises(UserValueError, match='where results go'):
            find_images([text], out)


def test_check_targets__inputs_are_not_overwritten(tmp_path):
    first = _picture(tmp_path / 'd' / 'vis' / 'a.jpg')
    out = str(tmp_path / 'd')
    images = find_images([first], out)
    with pytest.raises(UserValueError, match=f'overwrite the input {first}'):
        check_targets(images, out)
    check_targets(images, str(tmp_path / 'other'))
    # through a link, and from another input
    second = _picture(tmp_path / 'e' / 'a.jpg')
    (tmp_path / 'o').mkdir()
    (tmp_path / 'o' / 'vis').symlink_to(tmp_path / 'e')
    images = find_images([second], str(tmp_path / 'o'))
    with pytest.raises(UserValueError, match='would overwrite'):
        check_targets(images, str(tmp_path / 'o'))
    label = _picture(tmp_path / 'p' / 'pred' / 'a.png')
    images = find_images([label], str(tmp_path / 'p'))
    check_targets(images, str(tmp_path / 'p'))
    with pytest.raises(UserValueError, match='would overwrite'):
        check_targets(images, str(tmp_path / 'p'), save_pred=True)


@needs_mmdet
def test_coco_objects__boxes_and_masks():
    from mmengine.structures import InstanceData
    from pycocotools import mask as coding

    masks = torch.zeros(2, 10, 12, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    masks[1, 0, 0] = True
    instances = InstanceData(
        bboxes=torch.tensor([[3.0, 2.0, 9.0, 5.0], [0.0, 0.0, 1.0, 1.0]]),
        labels=torch.tensor([2, 0]),
        scores=torch.tensor([0.75, 0.5]),
        masks=masks,
    )
    found = json.loads(json.dumps(coco_objects(instances)))
    assert found[0]['bbox'] == [3, 2, 6, 3] and found[0]['area'] == 18
    assert [item['category_id'] for item in found] == [2, 0]
    for item, mask in zip(found, masks):
        decoded = coding.decode(item['segmentation'])
        assert np.array_equal(decoded.astype(bool), mask.numpy())
    assert coco_objects(instances[:0]) == []


@needs_mmseg
def test_writer__label_maps_of_many_classes(tmp_path):
    class Model:
        task = 'segmentation'
        dataset_meta = {'classes': ['x'] * 300, 'palette': [[0, 0, 0]] * 300}

        def draw(self, found, opacity, score_thr):
            return found.image

    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from mmdense.apis.inference import Inference

    labels = torch.tensor([[[0, 299], [256, 1]]])
    sample = SegDataSample(pred_sem_seg=PixelData(data=labels))
    image = np.zeros((2, 2, 3), np.uint8)
    writer = InferenceWriter(str(tmp_path), Model(), save_pred=True)
    path = writer.write(Inference(0, 'a.gif', sample, image), 'a')
    assert path == tmp_path / 'vis' / 'a.png'
    stored = np.asarray(Image.open(tmp_path / 'pred' / 'a.png'))
    assert stored.tolist() == labels[0].tolist()


@pytest.mark.slow
@needs_mmseg
def test_command__segmentation(seg, tmp_path):
    config, weights = seg
    folder = tmp_path / 'in'
    (folder / 'deep').mkdir(parents=True)
    for name in ('a.jpg', 'deep/a.jpg'):
        (folder / name).write_bytes(IMAGES[0].read_bytes())
    (folder / 'bad.jpg').write_bytes(b'nothing')
    Image.new('RGB', (1, 1)).save(folder / 'dot.png')
    out = tmp_path / 'out'
    options = [config, weights, '--out-dir', out, '--device', 'cpu']
    done = run_tool('infer.py', folder, *options, '--save-pred')
    assert f'skipped {folder}/bad.jpg: not an image' in done.stdout
    assert f'skipped {folder}/dot.png: IndexError' in done.stdout
    assert '2 of 4 images' in done.stdout
    files = sorted(str(p.relative_to(out)) for p in out.rglob('*.*'))
    assert files == [
        *('pred/a.png', 'pred/classes.json', 'pred/deep/a.png'),
        *('vis/a.jpg', 'vis/deep/a.jpg'),
    ]
    labels = Image.open(out / 'pred' / 'a.png')
    assert labels.mode == 'P' and labels.size == (320, 240)
    assert labels.getpalette()[:3] == [174, 199, 232]
    model = DenseInferencer(str(config), str(weights), 'cpu')
    expected = model(IMAGES[0])['predictions'][0].pred_sem_seg.data[0]
    assert np.array_equal(np.asarray(labels), expected.numpy())
    names = json.loads((out / 'pred' / 'classes.json').read_text())
    assert names[4] == 'bed'
    failed = run_tool('infer.py', folder / 'bad.jpg', *options, check=False)
    assert failed.returncode == 1 and '0 of 1 images' in failed.stdout


@needs_mmdet
def test_command__detection(det, tmp_path):
    config, weights = det
    out = tmp_path / 'out'
    run_tool(
        *('infer.py', *IMAGES[:2], config, weights, '--out-dir', out),
        *('--score-thr', '0.9', '--save-pred', '--batch-size', '2'),
        *('--cfg-options', 'model.test_cfg.rcnn.max_per_img=5'),
    )
    found = json.loads((out / 'pred' / 'predictions.json').read_text())
    assert [c['name'] for c in found['categories']] == list(BOXES)
    assert [i['file_name'] for i in found['images']] == list(
        map(str, IMAGES[:2])
    )
    objects = found['annotations']
    assert 0 < len(objects) <= 10
    assert {item['image_id'] for item in objects} <= {1, 2}
    assert all('counts' in item['segmentation'] for item in objects)
    for path in IMAGES[:2]:
        assert Image.open(out / 'vis' / path.name).size == (320, 240)


@pytest.mark.parametrize(
    'words,error',
    [
        (['no/such', SEG, 'no.pth'], 'Nothing at'),
        ([IMAGES[0], SEG, 'no.pth'], 'No checkpoint at no.pth'),
        ([IMAGES[0], 'no/config.py', 'no.pth'], 'No config file'),
        ([IMAGES[0], SEG, 'no.pth', '--opacity', '50'], '--opacity'),
        ([IMAGES[0], SEG, 'no.pth', '--out-dir', SEG], 'is a file'),
        ([IMAGES[0], SEG, SEG], 'is not a torch checkpoint'),
    ],
)
def test_command__mistakes_are_explained(words, error, monkeypatch, capsys):
    if words[0] == IMAGES[0] and not toolbox_installed('mmseg'):
        pytest.skip('mmseg is not installed')
    monkeypatch.setattr('sys.argv', ['infer.py', *map(str, words)])
    with pytest.raises(SystemExit) as info:
        runpy.run_path(str(ROOT / 'tools/infer.py'), run_name='__main__')
    assert info.value.code == 2
    assert error in capsys.readouterr().err
