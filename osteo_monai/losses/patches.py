"""Loss of a radiograph and its patches."""

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GlobalLocalLoss"]


class GlobalLocalLoss(nn.Module):
    """Sum of the binary cross-entropies of a radiograph and of its patches (Li et al. 2026, section 1.3).

    The paper names a global and a local loss, but neither their weights nor the target of a patch. Here the target of a
    patch is that of the radiograph, and the local loss is the mean over the patches.

    Args:
        local_weight: weight of the local loss; 0 for the global loss only.

    Raises:
        ValueError: when ``local_weight`` is negative.
    """

    def __init__(self, local_weight: float = 1.0) -> None:
        super().__init__()
        if local_weight < 0:
            raise ValueError(f"local_weight must be 0 or positive, got {local_weight}")
        self.local_weight = local_weight

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over the batch.

        Args:
            prediction: (N, 1 + P) logits, that of the radiograph first; P may be 0.
            target: (N,), true probability of osteoporosis: 0, 1 or between.

        Raises:
            ValueError: for other shapes.
        """
        if prediction.dim() != 2 or target.shape != prediction.shape[:1]:
            raise ValueError(
                f"prediction must be (N, 1 + P) and target (N,), got {tuple(prediction.shape)} and "
                f"{tuple(target.shape)}"
            )
        logits, truth = prediction.float(), target.float()
        loss = functional.binary_cross_entropy_with_logits(logits[:, 0], truth)
        if self.local_weight and logits.shape[1] > 1:
            local = functional.binary_cross_entropy_with_logits(logits[:, 1:], truth[:, None].expand_as(logits[:, 1:]))
            loss = loss + self.local_weight * local
        return loss
