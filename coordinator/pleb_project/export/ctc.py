"""CTC as a formula, since torch's kernel trusts the labels and lengths that it is given."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch

from pleb_shared.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ctc_loss"]

_NEVER: Final = -1e30
"""The logarithm of no chance at all: far below all others, and its gradient is not a NaN."""


def ctc_loss(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor | Sequence[int],
    target_lengths: torch.Tensor | Sequence[int],
    blank: int = 0,
    reduction: int = 1,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """Return the loss of Graves et al. 2006, equations 6 to 8, by its forward recursion.

    `log_probs` is [T, N, classes] and `targets` [N, S], labels that are padded; labels that follow
    each other in one row, whose places depend on the lengths, are refused. `reduction` is 0
    for none [N], 1 for the mean of each over its labels, 2 for the sum.

    Between and around the labels l' are blanks: 2 S + 1 places. A place is reached from itself,
    from the one before, and from two before unless that is a blank or the same label.

    Raises:
        GraphError: the labels are not [N, S].
    """
    if log_probs.dim() != 3 or targets.dim() != 2:
        raise GraphError(
            "F.ctc_loss takes scores [T, N, classes] and padded labels [N, S] here: labels that "
            "follow each other in one row have places that depend on the lengths."
        )
    steps, count, classes = log_probs.shape
    inputs, labels = (torch.as_tensor(one) for one in (input_lengths, target_lengths))
    extended = torch.full((count, 2 * targets.shape[1] + 1), blank)
    extended = extended.slice_scatter(targets.clamp(0, classes - 1).to(torch.int64), 1, 1, None, 2)
    emitted = log_probs.gather(2, extended.expand(steps, -1, -1))  # [T, N, 2 S + 1]
    never = log_probs.new_full((count, 2), _NEVER)
    differs = (extended[:, 2:] != extended[:, :-2]) & (extended[:, 2:] != blank)
    skips = torch.cat([torch.zeros(count, 2, dtype=torch.bool), differs], 1)[:, : extended.shape[1]]
    places = torch.arange(extended.shape[1])
    alpha = torch.where(places < 2, emitted[0], _NEVER)
    for step in range(1, steps):
        one = torch.cat([never[:, :1], alpha[:, :-1]], 1)
        two = torch.cat([never, alpha[:, :-2]], 1)[:, : extended.shape[1]]
        ways = torch.stack([alpha, one, torch.where(skips, two, _NEVER)])
        new = (ways.logsumexp(0) + emitted[step]).clamp(min=_NEVER)
        alpha = torch.where(step < inputs[:, None], new, alpha)
    ends = (places == 2 * labels[:, None]) | (places == 2 * labels[:, None] - 1)
    loss = -torch.where(ends, alpha, _NEVER).logsumexp(1)
    loss = torch.where(loss > -_NEVER / 2, 0.0 if zero_infinity else math.inf, loss)
    if reduction == 1:
        return (loss / labels.clamp(min=1)).mean()
    return loss.sum() if reduction == 2 else loss
