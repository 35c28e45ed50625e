"""Export dense predictors to ONNX, and check the file against PyTorch."""

import logging
import os
import tempfile
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmdense.models.backbones import VisionTransformer
from mmdense.models.backbones.resnetv2 import StandardizedConv2d
from mmdense.registry import MODELS
from mmdense.utils.errors import UserError, UserValueError
from mmdense.utils.versions import parse

from .inference.base import read_model_config
from .inference.toolbox import load_weights

Size = Tuple[int, int]
_PACKAGES = ('onnx', 'onnxruntime')


class OnnxError(UserError, RuntimeError):
    """A model that cannot be exported, or a file that is not equal to it."""


class OnnxCheck(NamedTuple):
    """Comparison of a file with PyTorch on the same input.

    Attributes:
        max_abs (float): Largest absolute difference.
        max_rel (float): That, relative to the largest absolute output.
        shape (Tuple[int, ...]): Of the output.
    """

    max_abs: float
    max_rel: float
    shape: Tuple[int, ...]


def require_packages(*extra: str) -> None:
    """Stop with a hint if a package for ONNX is not installed.

    Args:
        *extra (str): Packages beside onnx and onnxruntime.

    Raises:
        OnnxError: If one is missing.
    """
    missing = [n for n in (*_PACKAGES, *extra) if find_spec(n) is None]
    if missing:
        raise OnnxError(
            f'Exporting to ONNX needs {", ".join(missing)}: '
            "pip install 'mmdense[onnx]'."
        )


class _Predictor(nn.Module):
    """Images to what the model predicts at their size.

    Args:
        model (nn.Module): Segmentor or depth estimator of mmseg's kind.
        size (Tuple[int, int]): Height and width of the images.
        raw_input (bool): Whether images are RGB from 0 to 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, size: Size, raw_input: bool) -> None:
        super().__init__()
        self.model = model
        self.meta: Dict[str, Any] = {
            'img_shape': size,
            'ori_shape': size,
            'pad_shape': size,
        }
        mean, std = torch.zeros(1), torch.ones(1)
        if raw_input:
            mean, std = _normalization(model)
        self.register_buffer('mean', mean.view(1, -1, 1, 1), False)
        self.register_buffer('std', std.view(1, -1, 1, 1), False)
        self.raw_input = raw_input
        # the order in which the network wants its channels
        own = getattr(model.data_preprocessor, 'channel_conversion', False)
        self.reverse = raw_input and not own

    def forward(self, images: Tensor) -> Tensor:
        if self.raw_input:
            if self.reverse:
                images = images.flip(1)
            images = (images - self.mean) / self.std
        out = self.model.encode_decode(images, [self.meta] * len(images))
        clamp = getattr(self.model, '_clamp', None)
        return out if clamp is None else clamp(out)


def _normalization(model: Any) -> Tuple[Tensor, Tensor]:
    preprocessor = model.data_preprocessor
    mean = getattr(preprocessor, 'mean', None)
    std = getattr(preprocessor, 'std', None)
    if mean is None or std is None:
        raise UserValueError(
            'raw_input needs mean and std in model.data_preprocessor; '
            f'{type(preprocessor).__name__} of this config has none. Leave '
            '--raw-input out.'
        )
    return mean.detach().flatten().cpu(), std.detach().flatten().cpu()


def fix_size(model: nn.Module, images: Tensor) -> None:
    """Replace what depends on the size of the image by constants.

    Position embeddings are resized to the grid of ``images``, standardised
    filters are standardised. The model then has the same outputs for images
    of this size, and wrong ones for others.

    Args:
        model (nn.Module): Changed in place.
        images (Tensor): ``(1, 3, H, W)``, as the backbone gets them.
    """
    for module in model.modules():
        if isinstance(module, VisionTransformer):
            with torch.no_grad():
                _, hw = module.patch_embed(images)
                fixed = module.position_embedding(hw).detach().clone()
            module.pos_embed = nn.Parameter(fixed, requires_grad=False)
            module.patch_resolution = (int(hw[0]), int(hw[1]))
        elif isinstance(module, StandardizedConv2d):
            module.freeze_standardized()


@contextmanager
def _quiet() -> Iterator[None]:
    """No remarks of the exporter; errors are raised anyway."""
    loggers = [logging.getLogger(n) for n in ('torch.onnx', 'onnxscript')]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)


def _export(
    predictor: nn.Module, images: Tensor, path: str, opset: int
) -> None:
    options: Dict[str, Any] = {}
    if parse(torch.__version__) >= (2, 5):
        # the exporter that both supported versions of torch have
        options['dynamo'] = False
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            predictor,
            (images,),
            path,
            input_names=['image'],
            output_names=['prediction'],
            opset_version=opset,
            do_constant_folding=True,
            **options,
        )


def compare_onnx(
    path: str, predictor: Callable[[Tensor], Tensor], images: Tensor
) -> OnnxCheck:
    """Run a file with onnxruntime and compare it with PyTorch.

    Args:
        path (str): ONNX file.
        predictor (Callable[[Tensor], Tensor]): What it was made of, or its
            output for ``images``.
        images (Tensor): Input.

    Returns:
        OnnxCheck: The differences.

    Raises:
        OnnxError: If the shapes differ or the output is not finite.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path, settings, providers=['CPUExecutionProvider']
    )
    name = session.get_inputs()[0].name
    (found,) = session.run(None, {name: images.numpy()})
    with torch.no_grad():
        wanted = predictor(images).numpy()
    if found.shape != wanted.shape:
        raise OnnxError(f'{path} gives {found.shape}, PyTorch {wanted.shape}.')
    if not np.isfinite(found).all():
        raise OnnxError(f'{path} gives NaN or infinity.')
    gap = float(np.abs(found - wanted).max())
    scale = float(np.abs(wanted).max())
    return OnnxCheck(gap, gap / scale if scale else gap, found.shape)


def build_predictor(
    config: Any, checkpoint: Optional[str], trust: Optional[bool] = None
) -> nn.Module:
    """Model of a config with the weights of a file, for inference.

    Args:
        config (str or Config): Config of a segmentor or depth estimator.
        checkpoint (str, optional): Its weights. None leaves random ones.
        trust (bool, optional): Allow files that hold more than data.

    Returns:
        nn.Module: On the CPU, in evaluation mode.

    Raises:
        UserValueError: If the model is of another kind.
    """
    from mmengine.model import revert_sync_batchnorm

    from mmdense.utils.checkpoint import load_checkpoint_file, local_file
    from mmdense.utils.model_settings import forget_initial_weights

    cfg: Config = read_model_config(config)
    forget_initial_weights(cfg.model)
    init_default_scope(cfg.get('default_scope', 'mmdense'))
    model: Any = MODELS.build(cfg.model)
    if not hasattr(model, 'encode_decode'):
        raise UserValueError(
            f'{type(model).__name__} cannot be exported: only depth '
            'estimators and segmentors (mmdense.DepthEstimator, '
            'mmseg.EncoderDecoder) can.'
        )
    if checkpoint is not None:
        path = local_file(checkpoint)
        load_weights(model, load_checkpoint_file(path, trust=trust))
    model.cfg = cfg
    return revert_sync_batchnorm(model).eval()


def export_onnx(
    config: Any,
    checkpoint: Optional[str],
    dst: str,
    size: Sequence[int],
    raw_input: bool = False,
    opset: int = 17,
    tolerance: float = 1e-3,
    trust: Optional[bool] = None,
) -> OnnxCheck:
    """Export a model for images of one size, and check the file.

    Input ``image``: float32 ``(1, 3, H, W)``, normalised and in the channel
    order of the network; with ``raw_input`` RGB from 0 to 255. Output
    ``prediction``: float32 ``(1, C, H, W)``; depth in metres or inverse
    relative depth, or logits of the classes.

    Args:
        config (str or Config): Config of a segmentor or depth estimator:
            file, or name in the model zoo.
        checkpoint (str, optional): Its weights. None leaves random ones.
        dst (str): File to write; folders are made.
        size (Tuple[int, int]): Height and width in pixels.
        raw_input (bool): Put the normalisation into the file. Defaults to
            False.
        opset (int): Version of the operators, 17 or above. Defaults to 17.
        tolerance (float): Largest difference to PyTorch, relative to the
            largest output. Defaults to 1e-3.
        trust (bool, optional): Allow checkpoints that hold more than data.

    Returns:
        OnnxCheck: Difference to PyTorch on a random image.

    Raises:
        OnnxError: If a package is missing, the export fails or the output
            differs; nothing is written then.
        UserValueError: If the size or the model does not fit.
    """
    require_packages()
    height, width = (int(side) for side in size)
    if min(height, width) < 1 or height % 32 or width % 32:
        raise UserValueError(
            f'size {height}x{width} must be multiples of 32 pixels: the '
            'coarsest maps of the networks have that stride.'
        )
    if opset < 17:
        raise UserValueError(f'opset={opset} is below 17.')
    model = build_predictor(config, checkpoint, trust)
    predictor = _Predictor(model, (height, width), raw_input).eval()
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(2, 3, height, width, generator=generator)
    if raw_input:
        pair = (pair * 60 + 120).clamp(0, 255)
    # compared on another image than the one that was traced
    traced, images = pair.split(1)
    Path(dst).parent.mkdir(parents=True, exist_ok=True)
    # beside the target, that the last step is a rename
    with tempfile.TemporaryDirectory(dir=Path(dst).parent) as folder:
        path = os.path.join(folder, 'model.onnx')
        with torch.no_grad():
            wanted = predictor(images)
        fix_size(model, traced)
        try:
            _export(predictor, traced, path, opset)
        except Exception as error:
            raise OnnxError(
                f'torch {torch.__version__} cannot export this model: '
                f'{type(error).__name__}: {str(error).splitlines()[0]}'
            ) from error
        check = compare_onnx(path, lambda _: wanted, images)
        text = (
            f'largest difference to PyTorch {check.max_abs:.2e}, relative '
            f'to the largest output {check.max_rel:.2e}'
        )
        if check.max_rel > tolerance:
            raise OnnxError(
                f'The exported model is not equal: {text}, allowed '
                f'{tolerance:.0e} (--tolerance). Nothing was written.'
            )
        os.replace(path, dst)
    mib = os.path.getsize(dst) / 2**20
    print(
        f'Wrote {dst}: image 1x3x{height}x{width} -> prediction '
        f'{"x".join(map(str, check.shape))}, opset {opset}, {mib:.1f} MiB; '
        f'{text}'
    )
    return check
