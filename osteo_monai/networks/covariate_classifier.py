"""Late fusion of slices with facts of a person."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from osteo_monai.networks.slice_classification import slice_classifier

__all__ = ["CovariateClassifier"]


class CovariateClassifier(nn.Module):
    """``slice_classifier`` whose pooled features are joined with covariates such as age, sex and body mass index.

    Values and flags of the covariates are constant planes behind the slices (``CovariatePlanesd``), so that the network
    has one input. Known values are standardised by the reference, unknown ones become 0. A linear layer with ReLU maps
    values and flags to ``hidden`` features, which are joined with those of the slices before the last linear layer.
    Flags are learnt by omitting covariates at random in training.

    Args:
        in_channels: slices, C.
        covariates: number of covariates, K.
        out_channels, depth, widths, dropout: see ``slice_classifier``.
        hidden: features of the covariates.
        omitted: probability that a known covariate of a person is treated as unknown, in training.
        reference: mean and SD of each covariate in the training split, (K, 2); saved with the weights, so that only
            training sets it.

    Raises:
        ValueError: when an argument is out of range, or an input has another number of channels.
    """

    def __init__(
        self,
        in_channels: int = 2,
        covariates: int = 3,
        out_channels: int = 3,
        depth: str = "resnet18",
        widths: Sequence[int] = (32, 64, 128, 256),
        dropout: float = 0.0,
        hidden: int = 16,
        omitted: float = 0.1,
        reference: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        if covariates < 1 or hidden < 1 or not 0 <= omitted < 1:
            raise ValueError(
                "covariates and hidden must be at least 1 and omitted in [0, 1), "
                f"got {covariates}, {hidden} and {omitted}"
            )
        if reference is not None and (
            len(reference) != covariates or any(len(pair) != 2 or not pair[1] > 0 for pair in reference)
        ):
            raise ValueError(
                f"reference must be mean and SD of {covariates} covariates, SDs above 0, got {list(reference)}"
            )
        self.slices, self.covariates, self.omitted = in_channels, covariates, float(omitted)
        self.image = slice_classifier(in_channels, out_channels, depth, widths)
        width = int(self.image.fc.in_features)  # type: ignore[union-attr]
        self.image.fc = nn.Identity()  # type: ignore[assignment]
        self.person = nn.Sequential(nn.Linear(2 * covariates, hidden), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width + hidden, out_channels))
        pairs = [[0.0, 1.0]] * covariates if reference is None else reference
        self.register_buffer("reference", torch.tensor(pairs, dtype=torch.float32))
        self.reference: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, ``out_channels``).

        Args:
            x: (N, C + 2 K, X, Y): slices, K planes of values (0 if unknown) and K planes of flags (1 known, 0 unknown).
        """
        if x.dim() != 4 or x.shape[1] != self.slices + 2 * self.covariates:
            raise ValueError(f"input must be (N, {self.slices + 2 * self.covariates}, X, Y), got {list(x.shape)}")
        facts = x[:, self.slices :, 0, 0]
        values, known = facts[:, : self.covariates], facts[:, self.covariates :]
        if self.training and self.omitted > 0:
            known = known * (torch.rand_like(known) >= self.omitted).to(known.dtype)
        standard = (values - self.reference[:, 0]) / self.reference[:, 1] * known
        person = self.person(torch.cat([standard, known], 1))
        features = self.image(x[:, : self.slices])
        logits: Tensor = self.head(torch.cat([features, person.to(features.dtype)], 1))
        return logits
