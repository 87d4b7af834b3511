"""Networks that MONAI does not have, one a file."""

from osteo_monai.networks.channel_attention_unet import ChannelAttention, ChannelAttentionUNet

__all__ = ["ChannelAttention", "ChannelAttentionUNet"]
