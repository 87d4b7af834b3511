"""Networks that MONAI does not have."""

from osteo_monai.networks.channel_attention_unet import ChannelAttention, ChannelAttentionUNet
from osteo_monai.networks.column_network import COLUMN_CHANNELS, ColumnNetwork
from osteo_monai.networks.covariate_classifier import CovariateClassifier
from osteo_monai.networks.darknet import DarkNet19
from osteo_monai.networks.density_regressor import DensityRegressor
from osteo_monai.networks.patch_transformer import PatchTransformer, load_imagenet_resnet18
from osteo_monai.networks.placement import on_device
from osteo_monai.networks.radiograph_classification import radiograph_classifier
from osteo_monai.networks.slice_classification import VolumeClassifier, slice_classifier

__all__ = [
    "COLUMN_CHANNELS",
    "ChannelAttention",
    "ChannelAttentionUNet",
    "ColumnNetwork",
    "CovariateClassifier",
    "DarkNet19",
    "DensityRegressor",
    "PatchTransformer",
    "VolumeClassifier",
    "load_imagenet_resnet18",
    "on_device",
    "radiograph_classifier",
    "slice_classifier",
]
