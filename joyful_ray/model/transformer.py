"""A post-norm transformer over conversations; linear layers run on packed utterances, only attention uses padding.

Shapes: N = utterances, C = conversations, L = longest conversation, D = width, H = heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from joyful_ray.data.batch import Layout
from joyful_ray.graph.recomputation import MIN_NUMBERS, recomputed
from joyful_ray.model.dropout import AttentionDropout, Dropout, ReluDropout
from joyful_ray.model.memory import PartMemory

GROUP_SLOTS, GROUP_PADDING = 256, 0.125


def heads_for(width: int, most: int) -> int:
    """The largest divisor of `width` that is at most `most`."""
    return next(heads for heads in range(min(most, width), 0, -1) if width % heads == 0)


@dataclass(frozen=True)
class Group:
    """Conversations of similar length, padded to the longest of them.

    Attributes:
        layout: layout of these conversations alone.
        is_causal: whether a key is hidden from the queries before it; padding is then hidden, too.
        bias_CL: added to the attention logits of each key; -inf hides the key.
    """

    layout: Layout
    bias_CL: Tensor
    is_causal: bool = False


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each followed by a norm: `nn.TransformerEncoderLayer` on packed input.

    Shapes: input (N, D), output (N, D).
    """

    def __init__(self, width: int, *, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.expand = nn.Linear(width, feedforward)
        self.contract = nn.Linear(feedforward, width)
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.attention_drop = AttentionDropout(dropout)
        self.attended_drop, self.inner_drop, self.out_drop = Dropout(dropout), ReluDropout(dropout), Dropout(dropout)
        nn.init.xavier_uniform_(self.queries_keys_values.weight)
        nn.init.zeros_(self.queries_keys_values.bias)
        nn.init.zeros_(self.attended.bias)

    def forward(self, x_ND: Tensor, layout: Layout, groups: Sequence[Group]) -> Tensor:
        """Attend within each conversation of each group; the layout's conversations are ordered by group."""
        sizes = [len(group.layout.position_N) for group in groups]
        parts = self.queries_keys_values(x_ND).split(sizes)
        mixed = [self._attend(part, group) for part, group in zip(parts, groups, strict=True)]
        attended_ND = self.attended(torch.cat(mixed))
        x_ND = self.attention_norm(x_ND + self.attended_drop(attended_ND, layout))
        inner_NF = self.inner_drop(self.expand(x_ND), layout)
        return self.feedforward_norm(x_ND + self.out_drop(self.contract(inner_NF), layout))

    def step(self, x_1D: Tensor, memory: PartMemory, *, name: str) -> Tensor:
        """The output for the next utterance, (1, D); without dropout."""
        query, key, value = self.queries_keys_values(x_1D).view(1, 3, self.heads, -1).unbind(dim=1)
        key_THP, value_THP = memory.append(f"{name}.key", key), memory.append(f"{name}.value", value)
        query, key, value = (part.transpose(0, 1)[None] for part in (query, key_THP, value_THP))
        attended_1D = self.attended(F.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1).flatten(1))
        x_1D = self.attention_norm(x_1D + attended_1D)
        return self.feedforward_norm(x_1D + self.contract(self.expand(x_1D).relu()))

    def _attend(self, qkv: Tensor, group: Group) -> Tensor:
        """Attend within a group, for some queries at a time if it has many weights."""
        conversations, longest = group.bias_CL.shape
        numbers = 3 * conversations * self.heads * longest * longest
        if numbers < MIN_NUMBERS or not self.attention_drop.is_active:
            return recomputed(self._attend_whole, qkv, group, numbers=numbers)
        query, key, value = self._heads(qkv, group)
        at_a_time = max(longest * MIN_NUMBERS // numbers, 1)
        parts = [
            recomputed(self._attended, part, key, value, group, place * at_a_time, numbers=MIN_NUMBERS)
            for place, part in enumerate(query.split(at_a_time, dim=2))
        ]
        return group.layout.unpad(torch.cat(parts, dim=2).transpose(1, 2).flatten(2))

    def _attend_whole(self, qkv: Tensor, group: Group) -> Tensor:
        out = self._attended(*self._heads(qkv, group), group, 0)
        return group.layout.unpad(out.transpose(1, 2).flatten(2))

    def _heads(self, qkv: Tensor, group: Group) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the padded group, each (C, H, L, D / H)."""
        padded = group.layout.pad(qkv)
        query, key, value = padded.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, group: Group, first: int) -> Tensor:
        """What the queries from `first` attend to."""
        mask = None if group.is_causal else group.bias_CL[:, None, None, :].to(query.dtype)
        if not self.attention_drop.is_active:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=group.is_causal)
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        if mask is None:
            later = torch.ones(logits.shape[2:], dtype=torch.bool, device=query.device).triu(1 + first)
            logits = logits.masked_fill(later, float("-inf"))
        else:
            logits = logits + mask
        return self.attention_drop(torch.softmax(logits, dim=3), group.layout, first=first) @ value


class ConversationTransformer(nn.Module):
    """A stack of `TransformerLayer` in which a conversation attends to itself, without padding.

    Shapes: input (N, D), output (N, D).

    Args:
        width: input and output width.
        layers: number of layers.
        heads: largest number of heads; see `heads_for`.
        feedforward: width of the feed-forward layers.
        dropout: dropout in attention and behind each part.
        padding_mask: False pads every conversation to the longest of its batch and attends to the padding, as the
            released code does. All padding tokens of a conversation are equal, so they are computed as one token that
            is weighted by their number; in training, its dropout is drawn once.
        causal: True hides later utterances from earlier ones, and with them all padding.
        copied_layers: whether all layers start with the weights of the first.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        padding_mask: bool = True,
        causal: bool = False,
        copied_layers: bool = False,
    ) -> None:
        super().__init__()
        self.padding_mask, self.causal = padding_mask or causal, causal
        heads = heads_for(width, heads)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads=heads, feedforward=feedforward, dropout=dropout) for _ in range(layers)
        )
        for layer in self.layers[1:] if copied_layers else ():
            layer.load_state_dict(self.layers[0].state_dict())

    def forward(self, x_ND: Tensor, layout: Layout) -> Tensor:
        """Let the utterances of each conversation attend to each other."""
        if self.padding_mask:
            return self._through_layers(x_ND, layout, x_ND.new_zeros(layout.valid_CL.shape))
        return self._attend_to_padding(x_ND, layout)

    def step(self, x_1D: Tensor, memory: PartMemory) -> Tensor:
        """The output for the next utterance of a conversation, (1, D), if the transformer is causal."""
        for place, layer in enumerate(self.layers):
            assert isinstance(layer, TransformerLayer)
            x_1D = layer.step(x_1D, memory, name=str(place))
        return x_1D

    def _attend_to_padding(self, x_ND: Tensor, layout: Layout) -> Tensor:
        padding_C = layout.longest - layout.lengths_C
        wider = Layout.of(layout.lengths_C + 1, layout.keys_C)
        is_padding = wider.position_N == layout.lengths_C[wider.conversation_N]
        real = (~is_padding).nonzero().squeeze(1)
        bias_CL = x_ND.new_zeros(wider.valid_CL.shape)
        bias_CL = bias_CL.scatter(1, layout.lengths_C[:, None], padding_C.to(x_ND.dtype).log()[:, None])
        tokens = x_ND.new_zeros(len(is_padding), x_ND.shape[1]).index_copy(0, real, x_ND)
        return self._through_layers(tokens, wider, bias_CL).index_select(0, real)

    def _through_layers(self, x_ND: Tensor, layout: Layout, bias_CL: Tensor) -> Tensor:
        order_C = torch.argsort(layout.lengths_C, descending=True, stable=True)
        rank_C = torch.argsort(order_C)
        order_N = torch.argsort(rank_C[layout.conversation_N], stable=True)
        keys_C = None if layout.keys_C is None else layout.keys_C[order_C]
        ordered = Layout.of(layout.lengths_C[order_C], keys_C)
        groups = groups_of(ordered, bias_CL[order_C], causal=self.causal)
        x_ND = x_ND.index_select(0, order_N)
        for layer in self.layers:
            x_ND = layer(x_ND, ordered, groups)
        return x_ND.index_select(0, torch.argsort(order_N))


def groups_of(ordered: Layout, bias_CL: Tensor, *, causal: bool = False) -> list[Group]:
    """Group conversations, longest first; a group ends when it is large and the next would add much padding."""
    groups, start, lengths = [], 0, ordered.lengths_C.tolist()
    for end in range(1, len(lengths) + 1):
        longest, slots = lengths[start], (end - start) * lengths[start]
        if end < len(lengths):
            padding = slots + longest - sum(lengths[start : end + 1])
            if slots < GROUP_SLOTS or padding <= GROUP_PADDING * (slots + longest):
                continue
        keys_C = None if ordered.keys_C is None else ordered.keys_C[start:end]
        layout = Layout.of(ordered.lengths_C[start:end], keys_C)
        bias = bias_CL[start:end, :longest].masked_fill(~layout.valid_CL, float("-inf"))
        groups.append(Group(layout, bias, causal))
        start = end
    return groups
