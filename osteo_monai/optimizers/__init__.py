"""Learning rate schedules that PyTorch and MONAI do not have."""

from osteo_monai.optimizers.schedules import warmup_cosine

__all__ = ["warmup_cosine"]
