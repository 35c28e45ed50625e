"""Data sets of images alone: ImageNet, folders."""

from .parts import ImageFolder, Layout, Step

IMAGENET = Layout(
    name='imagenet',
    title='ImageNet-1k (ILSVRC 2012)',
    root='data/imagenet',
    parts=(
        ImageFolder(
            key='train.images',
            split='train',
            tasks=('pretraining',),
            folder='train',
            pattern='n*/*.JPEG',
            count=1_281_167,
            classes=1000,
        ),
        ImageFolder(
            key='val.images',
            split='val',
            tasks=('pretraining',),
            optional=True,
            folder='val',
            pattern='*.JPEG',
            count=50_000,
        ),
    ),
    page='https://image-net.org/download.php',
    access='registration needed; 138 GB (train) and 6 GB (val)',
    steps=(
        Step(
            'get',
            'Register, fetch ILSVRC2012_img_train.tar (and '
            'ILSVRC2012_img_val.tar). The first holds one tar file for each '
            'of 1,000 classes, which becomes a folder of the same name.',
            (
                'mkdir -p data/imagenet/train data/imagenet/val',
                'tar -xf ILSVRC2012_img_train.tar -C data/imagenet/train',
                '(cd data/imagenet/train && for f in n*.tar; do d=${f%.tar};'
                ' mkdir -p $d && tar -xf $f -C $d && rm $f; done)',
                'tar -xf ILSVRC2012_img_val.tar -C data/imagenet/val',
            ),
        ),
    ),
    configs=('imagenet_*.py',),
    notes=('Labels are not read: val may be flat or sorted by class.',),
)

FOLDER = Layout(
    name='folder',
    title='Any folder of images',
    root='data/images',
    parts=(
        ImageFolder(
            key='images',
            split='all',
            tasks=('pretraining',),
            folder='',
            pattern='*.{jpg,png,...}',
        ),
    ),
    access='your own images, in folders of any depth',
    configs=('folder_*.py', 'demo_*.py'),
    notes=(
        'demo/data/photos is one: check.py folder demo/data/photos',
        'Endings may be in upper case; names that start with a dot are '
        'passed over.',
    ),
)
