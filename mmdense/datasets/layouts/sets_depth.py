"""Data sets with depth, and the demo rooms, which have everything."""

from .parts import CocoFile, H5Folder, LabelPairs, Layout, Step

NYU_H5 = Layout(
    name='nyu-h5',
    title='NYU Depth V2 as HDF5 (Sparse-to-Dense, FastDepth)',
    root='data/nyudepthv2',
    parts=(
        H5Folder(
            key='train.files',
            split='train',
            tasks=('depth',),
            folder='train',
            pattern='<scene>/*.h5',
            count=47_584,
        ),
        H5Folder(
            key='official.files',
            split='official',
            tasks=('depth',),
            folder='val/official',
            count=654,
        ),
    ),
    page='https://github.com/dwofk/fast-depth',
    access='no registration; 32 GB',
    steps=(
        Step(
            'get',
            'Fetch and unpack the files that FastDepth prepared.',
            (
                'mkdir -p data',
                'wget http://datasets.lids.mit.edu/fastdepth/data/'
                'nyudepthv2.tar.gz',
                'tar -xf nyudepthv2.tar.gz -C data',
            ),
        ),
    ),
    configs=('nyu_*_h5.py',),
)

_ROOMS = (('train', 160, 933), ('val', 40, 248))
ROOMS = Layout(
    name='rooms',
    title='Rendered demo rooms',
    root='demo/data/rooms',
    parts=(
        *(
            LabelPairs(
                key=f'{split}.pairs',
                split=split,
                tasks=('segmentation',),
                images=split,
                labels=f'semantic/{split}',
                count=views,
                classes=(0, 12),
                size=(240, 320),
            )
            for split, views, _ in _ROOMS
        ),
        *(
            LabelPairs(
                key=f'{split}.depth',
                split=split,
                tasks=('depth',),
                images=split,
                labels=f'depth/{split}',
                count=views,
                size=(240, 320),
                depth=True,
            )
            for split, views, _ in _ROOMS
        ),
        *(
            CocoFile(
                key=f'{split}.json',
                split=split,
                tasks=('detection',),
                file=f'annotations/instances_{split}.json',
                images=split,
                count=views,
                instances=instances,
                categories=10,
            )
            for split, views, instances in _ROOMS
        ),
    ),
    access='comes with the repository',
    steps=(
        Step('get', 'Restore the files.', ('git checkout demo/data/rooms',)),
    ),
    configs=('rooms_*.py',),
)
