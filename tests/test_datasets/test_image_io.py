import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmdense.datasets import BadImageError, EncodedImage, open_image
from mmdense.datasets.image_io import REASONS


def picture(width=48, height=32, seed=0):
    rng = np.random.RandomState(seed)
    coarse = rng.randint(0, 256, (4, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.BICUBIC)


def encode(image, kind, **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, kind, **kwargs)
    return buffer.getvalue()


def read(content):
    return EncodedImage(content).decode()[0]


def png_header(width, height):
    def chunk(name, body):
        check = zlib.crc32(name + body)
        return (
            struct.pack('>I', len(body))
            + name
            + body
            + struct.pack('>I', check)
        )

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IEND', b'')


def near(a, b, levels):
    return np.abs(a.astype(int) - np.asarray(b).astype(int)).max() <= levels


@pytest.mark.parametrize('subsampling', [0, 2])
@pytest.mark.parametrize('progressive', [False, True])
def test_decode__jpeg_equals_pillow(subsampling, progressive):
    content = encode(
        picture(),
        'JPEG',
        quality=90,
        subsampling=subsampling,
        progressive=progressive,
    )
    pixels = read(content)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))
    assert pixels.shape == (32, 48, 3) and pixels.dtype == np.uint8
    assert near(pixels, expected, 2)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_decode__exif_orientation(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = dict(lossless=True) if kind == 'WEBP' else {}
    content = encode(picture(), kind, exif=exif, **options)
    encoded = EncodedImage(content)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert (encoded.width, encoded.height) == expected.size
    assert near(encoded.decode()[0], expected.convert('RGB'), 2)
    if kind == 'JPEG':
        half = encoded.decode(2)[0]
        shrunk = expected.convert('RGB').reduce(2)
        assert np.abs(half.astype(int) - np.asarray(shrunk)).mean() < 3


def test_decode__broken_exif_is_ignored():
    content = encode(picture(), 'JPEG', exif=b'Exif\x00\x00MM\x00*garbage')
    assert read(content).shape == (32, 48, 3)


@pytest.mark.parametrize('mode', ['CMYK', 'L', 'YCbCr'])
def test_decode__jpeg_of_other_colour_spaces(mode):
    image = picture().convert(mode)
    content = encode(image, 'JPEG', quality=98)
    expected = Image.open(io.BytesIO(content)).convert('RGB')
    assert near(read(content), expected, 2)
    if mode == 'CMYK':
        assert near(read(content), picture(), 40)


def test_decode__sixteen_bit_grey():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for kind in ('PNG', 'TIFF'):
        pixels = read(encode(Image.fromarray(ramp), kind))
        assert near(pixels[..., 0], ramp / 257, 1)
        assert pixels.max() == 255 and pixels.min() == 0


def test_decode__float_tiff_with_nan():
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0] = np.nan
    pixels = read(encode(Image.fromarray(values), 'TIFF'))
    assert pixels[0, 0, 0] == 0 and pixels[-1, -1, 0] == 255
    pixels = read(encode(Image.fromarray(values * 1000), 'TIFF'))
    assert near(
        pixels[..., 0], np.clip(np.nan_to_num(values) * 1000, 0, 255), 1
    )


def test_decode__transparency_is_shown_on_white():
    clear = Image.new('RGBA', (6, 6), (10, 20, 30, 0))
    clear.paste((200, 0, 0, 255), (0, 0, 3, 6))
    half = Image.new('LA', (6, 6), (0, 128))
    palette = clear.convert('RGB').quantize(4)
    colour = palette.getpixel((5, 0))
    for content in (
        encode(clear, 'PNG'),
        encode(palette, 'PNG', transparency=colour),
        encode(palette, 'GIF', transparency=colour),
    ):
        pixels = read(content)
        assert (pixels[:, 3:] == 255).all()
        assert near(pixels[:, :3], np.array([200, 0, 0]), 8)
    assert near(read(encode(half, 'PNG')), np.array(127), 1)


def test_decode__animation_gives_its_first_frame():
    frames = [Image.new('RGB', (9, 7), c) for c in ('red', 'blue', 'lime')]
    for kind in ('GIF', 'WEBP', 'PNG'):
        content = encode(
            frames[0], kind, save_all=True, append_images=frames[1:]
        )
        pixels = read(content)
        assert pixels.shape == (7, 9, 3)
        assert near(pixels, np.array([255, 0, 0]), 3)


@pytest.mark.parametrize('mode', ['1', 'P', 'RGB'])
@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF'])
def test_decode__other_formats(kind, mode):
    image = picture().convert(mode)
    assert near(read(encode(image, kind)), image.convert('RGB'), 0)


@pytest.mark.parametrize('reduction', [1, 2, 4, 8])
def test_decode__reduction_rounds_sizes_up(reduction):
    encoded = EncodedImage(encode(picture(101, 67), 'JPEG', quality=95))
    pixels, applied = encoded.decode(reduction)
    assert applied == reduction
    assert pixels.shape == (-(-67 // reduction), -(-101 // reduction), 3)
    png = EncodedImage(encode(picture(101, 67), 'PNG'))
    pixels, applied = png.decode(reduction)
    assert applied == 1 and pixels.shape == (67, 101, 3)


JPEG = encode(picture(200, 150), 'JPEG', quality=95)
PNG = encode(picture(200, 150), 'PNG')


@pytest.mark.parametrize(
    'content, reason',
    [
        (b'', 'empty'),
        (b'hello, I am a text', 'not an image'),
        (JPEG[:10], 'not an image'),
        (JPEG[: len(JPEG) // 2], 'truncated'),
        (JPEG[:-2], 'truncated'),
        (PNG[: len(PNG) // 2], 'truncated'),
        (PNG[:60] + b'x' * 40 + PNG[100:], 'corrupt'),
        (png_header(100_000, 100_000), 'too large'),
        (png_header(12_000, 10_000), 'too large'),
    ],
)
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_open__bad_content(content, reason):
    with pytest.raises(BadImageError) as caught:
        EncodedImage(content, 'some/file.jpg').decode()
    assert caught.value.reason == reason
    assert 'some/file.jpg' in str(caught.value)


@pytest.mark.parametrize('seed', range(40))
def test_open__damaged_bytes_never_escape(seed):
    rng = np.random.RandomState(seed)
    content = bytearray((JPEG, PNG)[seed % 2])
    for place in rng.randint(0, len(content), 30):
        content[place] = rng.randint(256)
    try:
        pixels = read(bytes(content))
    except BadImageError as error:
        assert error.reason in REASONS[1:]
    else:
        assert pixels.ndim == 3 and pixels.dtype == np.uint8


def test_open__bytes_after_the_end_of_a_jpeg():
    assert read(JPEG + b'\0' * 200).shape == (150, 200, 3)


def test_open_image__missing_and_unreadable(tmp_path):
    with pytest.raises(BadImageError, match='missing'):
        open_image(str(tmp_path / 'nothing.jpg'))
    with pytest.raises(BadImageError, match='unreadable'):
        open_image(str(tmp_path))


def test_open_image__file_backend(tmp_path):
    path = tmp_path / 'a.png'
    picture().save(path)
    encoded = open_image(str(path), backend_args=dict(backend='local'))
    assert near(encoded.decode()[0], picture(), 0)
    with pytest.raises(BadImageError, match='max_pixels=100'):
        open_image(str(path), max_pixels=100)
