"""BinsFormer: depth as a mean over bins that queries choose."""

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import MultiScaleDeformableAttention
from mmseg.utils import ConfigType, SampleList
from torch import Tensor, nn

from mmdense.registry import MODELS
from mmdense.utils.errors import UserValueError

from .base_depth_head import BaseDepthHead
from .binsformer_decoder import (
    LEVEL_ORDERS,
    BinsDecoder,
    BinsOutput,
    bin_centres,
    expected_depth,
)
from .binsformer_encoder import DeformableEncoder, PixelDecoder

_DEFAULT_LOSS = dict(type='mmdense.SILogLoss', loss_weight=10.0)
PIXEL_STARTS = ('stride8', 'stride16')


@MODELS.register_module()
class BinsFormerDepthHead(BaseDepthHead):
    """Adaptive bins from queries, after a deformable encoder.

    Takes maps F4, F8, F16 and F32 of those strides. A deformable encoder
    turns the last three into E8, E16 and E32, a pixel decoder brings E8 to
    stride 4 (P4). Bin queries attend to E32, E16 and E8; each gives the width
    of a bin and an embedding. Depth is the mean of the bin centres under the
    softmax of the products of embeddings and P4. With ``scene_classes`` one
    more query names the scene, trained where data samples have an int
    ``scene_label`` in their metainfo (-1 or absent: unknown).

    Losses of the final depth keep their names; those of the depth after
    ``aux_layers`` are ``layer<i>.<name>`` and scaled by ``aux_weights``. The
    scene loss is added after the same layers with one weight.

    Sources: [0] Li et al., BinsFormer: Revisiting Adaptive Bins for Monocular
    Depth Estimation, 2022. [1] zhyever/Monocular-Depth-Estimation-Toolbox
    (layer orders, weights, ``pixel_start='stride16'``).

    Args:
        in_channels (Sequence[int]): Channels of F4, F8, F16 and F32.
        channels (int): Width, a multiple of 4 and of ``num_heads``. Defaults
            to 256.
        num_queries (int): Number of bins. Defaults to 64.
        scene_classes (int, optional): Number of scenes; None for no scene
            query. Defaults to 25.
        level_order (str): Which map decoder layer i attends to: ``'//'`` for
            E32 in the first third, E16 in the second, E8 in the last;
            ``'%'`` for E32, E16, E8 in turn. Defaults to '//'.
        pixel_start (str): Where the pixel decoder starts. 'stride8' adds E8
            to F8; 'stride16' shrinks E8, adds it to F16 and goes on from
            there, as [1] does. Defaults to 'stride8'.
        num_layers (int): Layers of the decoder, at least 3. Defaults to 9.
        aux_layers (Sequence[int]): Layers, counted from 0 and before the
            last, after which depth and scene are trained too. Defaults to
            (2, 5).
        aux_weights (Sequence[float]): Factors of the depth losses there.
            Defaults to (0.25, 0.5).
        scene_loss_weight (float): Factor of the scene loss. Defaults to 0.01.
        encoder (dict, optional): What differs from the defaults of
            :class:`~.binsformer_encoder.DeformableEncoder`. Defaults to None.
        decoder (dict, optional): What differs from the defaults of
            :class:`~.binsformer_decoder.BinsDecoder`. Defaults to None.
        min_depth (float): Lower end of the bins in metres. Defaults to 1e-3.
        max_depth (float): Upper end of the bins in metres. Defaults to 10.0.
        in_index (Sequence[int]): Which maps to take. Defaults to
            (0, 1, 2, 3).
        loss_decode (dict or Sequence[dict]): Depth losses. Defaults to ten
            times :class:`mmdense.SILogLoss`.
        init_cfg (dict, optional): None for a Xavier initialisation of all
            weights and a normal one of the queries; what is given replaces
            this. Defaults to None.
        **kwargs (Any): ``valid_range``, ``norm_cfg``, ``align_corners``; see
            :class:`BaseDepthHead`.

    Raises:
        ValueError: If an option is unknown or options do not fit together.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        num_queries: int = 64,
        scene_classes: Optional[int] = 25,
        level_order: str = '//',
        pixel_start: str = 'stride8',
        num_layers: int = 9,
        aux_layers: Sequence[int] = (2, 5),
        aux_weights: Sequence[float] = (0.25, 0.5),
        scene_loss_weight: float = 0.01,
        encoder: Optional[dict] = None,
        decoder: Optional[dict] = None,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        in_index: Sequence[int] = (0, 1, 2, 3),
        loss_decode: Union[dict, Sequence[dict]] = _DEFAULT_LOSS,
        init_cfg: Optional[Union[dict, List[dict]]] = None,
        **kwargs: Any,
    ) -> None:
        _check(
            in_channels,
            channels,
            num_queries,
            scene_classes,
            level_order,
            pixel_start,
            num_layers,
            aux_layers,
            aux_weights,
        )
        foreign = {'output', 'init_depth', 'out_kernel'} & set(kwargs)
        if foreign:
            raise UserValueError(
                f'BinsFormerDepthHead: {sorted(foreign)} belong to heads with '
                'an output convolution; bins fill min_depth to max_depth'
            )
        super().__init__(
            in_channels=list(in_channels),
            channels=channels,
            in_index=list(in_index),
            input_transform='multiple_select',
            min_depth=min_depth,
            max_depth=max_depth,
            loss_decode=loss_decode,
            **kwargs,
        )
        # bins take the place of the last convolution
        del self.conv_depth
        self.init_cfg = init_cfg
        self.aux_layers = tuple(aux_layers)
        self.aux_weights = tuple(aux_weights)
        self.scene_classes = scene_classes
        self.scene_loss_weight = scene_loss_weight
        self.encoder = DeformableEncoder(
            in_channels[1:],
            channels,
            norm_cfg=self.norm_cfg,
            **(encoder or {}),
        )
        self.pixel_decoder = PixelDecoder(
            in_channels[: 3 if pixel_start == 'stride16' else 2],
            channels,
            norm_cfg=self.norm_cfg,
            align_corners=self.align_corners,
        )
        self.decoder = BinsDecoder(
            channels,
            num_queries,
            scene_classes,
            num_layers,
            level_order=level_order,
            **(decoder or {}),
        )

    def init_weights(self) -> None:
        """Xavier for weights, normal for embeddings, mmcv's for offsets."""
        if self.init_cfg:
            super().init_weights()
            return
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight)
            elif isinstance(module, MultiScaleDeformableAttention):
                module.init_weights()
        self._is_init = True

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Depth at stride 4.

        Args:
            inputs (Sequence[Tensor]): Maps ``(B, C_l, h_l, w_l)`` of strides
                4, 8, 16 and 32.

        Returns:
            Tensor: ``(B, 1, h_0, w_0)`` in metres, float32.
        """
        features, outputs = self.decode(inputs)
        return self._depth(features, outputs[-1])

    def decode(
        self, inputs: Sequence[Tensor], layers: Sequence[int] = ()
    ) -> Tuple[Tensor, List[BinsOutput]]:
        """What depth and scene are made of.

        Args:
            inputs (Sequence[Tensor]): Maps ``(B, C_l, h_l, w_l)``.
            layers (Sequence[int]): Decoder layers before the last after
                which outputs are wanted. Defaults to ().

        Returns:
            Tuple[Tensor, List[BinsOutput]]: P4 ``(B, channels, h_0, w_0)``
            and the outputs after ``layers`` and the last layer.
        """
        maps = list(self._transform_inputs(inputs))
        encoded = self.encoder(maps[1:])
        steps = len(self.pixel_decoder.laterals)
        features = self.pixel_decoder(encoded[0], maps[:steps])
        if self.dropout is not None:
            features = self.dropout(features)
        last = len(self.decoder.layers) - 1
        return features, self.decoder(encoded[::-1], (*layers, last))

    def _depth(self, features: Tensor, output: BinsOutput) -> Tensor:
        centres = bin_centres(output.widths, self.min_depth, self.max_depth)
        return expected_depth(features, output.embeddings, centres)

    def loss(
        self,
        inputs: Sequence[Tensor],
        batch_data_samples: SampleList,
        train_cfg: ConfigType = None,
        image: Optional[Tensor] = None,
    ) -> Dict[str, Tensor]:
        """Losses of a batch after the auxiliary and the last layer.

        Args:
            inputs (Sequence[Tensor]): Maps ``(B, C_l, h_l, w_l)``.
            batch_data_samples (List[SegDataSample]): With ``gt_depth_map``
                and, for the scene loss, ``scene_label`` in the metainfo.
            train_cfg (dict, optional): Unused. Defaults to None.
            image (Tensor, optional): ``(B, 3, H, W)`` in [0, 1], for losses
                that need it. Defaults to None.

        Returns:
            Dict[str, Tensor]: Loss per name.

        Raises:
            UserValueError: If a scene label is out of range.
        """
        features, outputs = self.decode(inputs, self.aux_layers)
        labels = None
        if self.scene_classes is not None:
            labels = self._scene_labels(batch_data_samples, features.device)
        losses: Dict[str, Tensor] = {}
        prefixes = [f'layer{index}.' for index in self.aux_layers] + ['']
        weights = (*self.aux_weights, 1.0)
        for prefix, weight, output in zip(prefixes, weights, outputs):
            found = self.loss_by_feat(
                self._depth(features, output), batch_data_samples, image
            )
            for name, value in found.items():
                losses[prefix + name] = weight * value
            if labels is not None and output.scene is not None:
                losses[f'{prefix}loss_scene'] = (
                    self.scene_loss_weight * scene_loss(output.scene, labels)
                )
        return losses

    def _scene_labels(self, samples: SampleList, device: Any) -> Tensor:
        """Label of each image, -1 for unknown, ``(B,)``."""
        assert self.scene_classes is not None
        labels = []
        for sample in samples:
            label = sample.metainfo.get('scene_label')
            label = -1 if label is None else int(label)
            if not -1 <= label < self.scene_classes:
                raise UserValueError(
                    f'{sample.metainfo.get("img_path")}: scene_label {label} '
                    'is not -1 (unknown) or below model.decode_head.'
                    f'scene_classes={self.scene_classes}'
                )
            labels.append(label)
        return torch.tensor(labels).to(device, non_blocking=True)


def scene_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the images whose scene is known.

    Args:
        logits (Tensor): ``(B, K)``.
        labels (Tensor): int64 ``(B,)``, -1 for unknown.

    Returns:
        Tensor: Mean over the known, a scalar; 0 with zero gradients if there
        is none.
    """
    total = F.cross_entropy(
        logits.float(), labels, ignore_index=-1, reduction='sum'
    )
    return total / (labels >= 0).sum().clamp(min=1)


def _check(
    in_channels: Sequence[int],
    channels: int,
    num_queries: int,
    scene_classes: Optional[int],
    level_order: str,
    pixel_start: str,
    num_layers: int,
    aux_layers: Sequence[int],
    aux_weights: Sequence[float],
) -> None:
    name = 'BinsFormerDepthHead'
    if len(in_channels) != 4:
        raise UserValueError(
            f'{name}: in_channels={list(in_channels)} needs 4 entries, of the '
            'maps of strides 4, 8, 16 and 32'
        )
    if channels % 4:
        raise UserValueError(
            f'{name}: channels={channels} is no multiple of 4, which the '
            'sine positions need'
        )
    if num_queries < 1 or (scene_classes is not None and scene_classes < 1):
        raise UserValueError(
            f'{name}: num_queries={num_queries} and scene_classes='
            f'{scene_classes} need to be positive (scene_classes=None for no '
            'scene query)'
        )
    for option, value, known in (
        ('level_order', level_order, LEVEL_ORDERS),
        ('pixel_start', pixel_start, PIXEL_STARTS),
    ):
        if value not in known:
            raise UserValueError(
                f'{name}: {option}={value!r}, choose from {known}'
            )
    if num_layers < 3:
        raise UserValueError(
            f'{name}: num_layers={num_layers} leaves one of the three maps '
            'without a layer; needs at least 3'
        )
    fitting = all(0 <= index < num_layers - 1 for index in aux_layers)
    if not fitting or list(aux_layers) != sorted(set(aux_layers)):
        raise UserValueError(
            f'{name}: aux_layers={list(aux_layers)} need to ascend from 0 to '
            f'{num_layers - 2}, the layer before the last'
        )
    if len(aux_layers) != len(aux_weights):
        raise UserValueError(
            f'{name}: aux_weights={list(aux_weights)} need one entry for '
            f'each of aux_layers={list(aux_layers)}'
        )
