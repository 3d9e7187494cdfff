"""One micro-batch as tensors.

Shapes: N = utterances of the micro-batch, C = its conversations, W = width of a modality, K = labels, L = longest
    conversation, T = word n-grams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from joyful_ray.data.draws import at, numbered
from joyful_ray.schema import Modality


@dataclass(frozen=True)
class NgramIds:
    """Word n-grams of the texts: ids of all utterances in order, (T,), and their number per utterance, (N,)."""

    ids_T: Tensor
    counts_N: Tensor


@dataclass(frozen=True)
class Batch:
    """Utterances of whole conversations, packed one after the other.

    Attributes:
        features: per modality (N, W); NaN marks a cell that is not present.
        present: per modality (N,) bool; False where the whole vector is not present.
        speakers_N: speaker ids; they start at 0 in each conversation.
        lengths_C: number of utterances of each conversation.
        labels: (N,) int64 with -1 for unlabeled (single-label), (N, K) indicators (multi-label) or (N,) numbers
            (regression) with NaN for unlabeled.
        conversations: positions of the conversations in their split.
        conversation_ids: their ids.
        ngrams: word n-grams of the texts; None if texts are not read.
        keys_C: what the random draws of each conversation depend on in training (draws.py); None leaves them to torch.
    """

    features: dict[Modality, Tensor]
    present: dict[Modality, Tensor]
    speakers_N: Tensor
    lengths_C: Tensor
    labels: Tensor
    conversations: tuple[int, ...] = ()
    conversation_ids: tuple[str, ...] = ()
    ngrams: NgramIds | None = None
    keys_C: Tensor | None = None

    @property
    def utterances(self) -> int:
        """N."""
        return self.speakers_N.shape[0]

    @cached_property
    def layout(self) -> Layout:
        """Conversation and position of each utterance."""
        return Layout.of(self.lengths_C, self.keys_C)

    def alone(self, place: int) -> Batch:
        """One of the conversations as a batch of its own, with the same random draws."""
        ends = self.lengths_C.cumsum(0).tolist()
        first, last = ends[place] - int(self.lengths_C[place]), ends[place]
        ngrams = self.ngrams
        if ngrams is not None:
            start, count = int(ngrams.counts_N[:first].sum()), int(ngrams.counts_N[first:last].sum())
            ngrams = NgramIds(ngrams.ids_T[start : start + count], ngrams.counts_N[first:last])
        return replace(
            self,
            features={name: values[first:last] for name, values in self.features.items()},
            present={name: values[first:last] for name, values in self.present.items()},
            speakers_N=self.speakers_N[first:last],
            lengths_C=self.lengths_C[place : place + 1],
            labels=self.labels[first:last],
            conversations=self.conversations[place : place + 1],
            conversation_ids=self.conversation_ids[place : place + 1],
            ngrams=ngrams,
            keys_C=None if self.keys_C is None else self.keys_C[place : place + 1],
        )

    def apart(self, name: str) -> Batch:
        """The same batch, with random draws of its own."""
        return replace(self, keys_C=None if self.keys_C is None else at(self.keys_C, name))

    @cached_property
    def labeled_N(self) -> Tensor:
        """True where an utterance has a label, (N,)."""
        if self.labels.dtype == torch.int64:
            return self.labels >= 0
        known = ~torch.isnan(self.labels)
        return known if known.dim() == 1 else known.all(dim=1)

    @cached_property
    def given(self) -> dict[Modality, Tensor]:
        """Which utterances have something of a modality, (N,) bool: its vector or, for text, words that are read."""
        given = dict(self.present)
        if self.ngrams is not None:
            has_words_N = self.ngrams.counts_N > 0
            given["text"] = has_words_N | given["text"] if "text" in given else has_words_N
        return given

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        if device == self.speakers_N.device:
            return self
        return replace(
            self,
            features={name: tensor.to(device, non_blocking=True) for name, tensor in self.features.items()},
            present={name: tensor.to(device, non_blocking=True) for name, tensor in self.present.items()},
            speakers_N=self.speakers_N.to(device),
            lengths_C=self.lengths_C.to(device),
            labels=self.labels.to(device),
            ngrams=self.ngrams and NgramIds(self.ngrams.ids_T.to(device), self.ngrams.counts_N.to(device)),
            keys_C=None if self.keys_C is None else self.keys_C.to(device),
        )


@dataclass(frozen=True)
class Layout:
    """Conversation and position of each utterance of a packed batch, and in training the key of its random draws.

    `pad` and `unpad` convert between packed (N, …) and padded (C, L, …).
    """

    lengths_C: Tensor
    conversation_N: Tensor
    position_N: Tensor
    longest: int
    keys_C: Tensor | None = None

    @classmethod
    def of(cls, lengths_C: Tensor, keys_C: Tensor | None = None) -> Layout:
        """Layout of conversations of these lengths, one after the other.

        Args:
            lengths_C: number of utterances of each conversation.
            keys_C: keys of their random draws; None takes random ones from torch when they are needed.
        """
        starts_C = torch.cumsum(lengths_C, 0) - lengths_C
        conversation_N = torch.repeat_interleave(torch.arange(len(lengths_C), device=lengths_C.device), lengths_C)
        position_N = torch.arange(len(conversation_N), device=lengths_C.device) - starts_C[conversation_N]
        return cls(lengths_C, conversation_N, position_N, int(lengths_C.max()), keys_C)

    def apart(self, name: str) -> Layout:
        """The same layout, with random draws of its own."""
        return replace(self, keys_C=None if self.keys_C is None else at(self.keys_C, name))

    @cached_property
    def key_N(self) -> Tensor:
        """Key of the random draws of each utterance, (N,); see draws.py."""
        if self.keys_C is None:
            return torch.empty_like(self.conversation_N).random_(-(2**63), None)
        return numbered(self.keys_C[self.conversation_N], self.position_N)

    @cached_property
    def own_key_C(self) -> Tensor:
        """Key of the random draws that a conversation makes as a whole, (C,)."""
        if self.keys_C is None:
            return torch.empty_like(self.lengths_C).random_(-(2**63), None)
        return at(self.keys_C, "conversation")

    @cached_property
    def slot_N(self) -> Tensor:
        """Index of each utterance in the flattened padded layout, (N,)."""
        return self.conversation_N * self.longest + self.position_N

    @cached_property
    def valid_CL(self) -> Tensor:
        """True where the padded layout has an utterance, (C, L)."""
        places_L = torch.arange(self.longest, device=self.lengths_C.device)
        return places_L[None, :] < self.lengths_C[:, None]

    def groups(self, *, most_padding: float) -> list[tuple[Tensor, Layout]]:
        """Conversations of similar length, the longest first, so that little is padded; see `joined`.

        Args:
            most_padding: at least 1; a conversation is at most so many times shorter than the longest of its group.

        Returns:
            For each group the positions of its utterances in the batch, and their layout.
        """
        lengths = self.lengths_C.tolist()
        if max(lengths) <= most_padding * min(lengths):
            return [(torch.arange(len(self.position_N), device=self.lengths_C.device), self)]
        order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
        starts = [0]
        for place in range(1, len(order)):
            if lengths[order[place]] * most_padding < lengths[order[starts[-1]]]:
                starts.append(place)
        first_C = torch.cumsum(self.lengths_C, 0) - self.lengths_C
        found = []
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            chosen = torch.tensor(sorted(order[start:end]), device=self.lengths_C.device)
            part = Layout.of(self.lengths_C[chosen], None if self.keys_C is None else self.keys_C[chosen])
            found.append((first_C[chosen][part.conversation_N] + part.position_N, part))
        return found

    def pad(self, packed_ND: Tensor) -> Tensor:
        """(N, D) -> (C, L, D); zero where there is no utterance."""
        flat = packed_ND.new_zeros(len(self.lengths_C) * self.longest, *packed_ND.shape[1:])
        flat = flat.index_copy(0, self.slot_N, packed_ND)
        return flat.view(len(self.lengths_C), self.longest, *packed_ND.shape[1:])

    def unpad(self, padded_CLD: Tensor) -> Tensor:
        """(C, L, D) -> (N, D)."""
        return padded_CLD.flatten(0, 1).index_select(0, self.slot_N)


def joined(groups: Sequence[tuple[Tensor, Layout]], parts: Sequence[Tensor]) -> Tensor:
    """Values of the utterances of each group, (n, …), as values of the whole batch, (N, …)."""
    if len(groups) == 1:
        return parts[0]
    rows_N = torch.cat([rows_N for rows_N, _ in groups])
    return torch.cat(list(parts)).index_select(0, torch.argsort(rows_N))
