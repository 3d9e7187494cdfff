"""A post-norm transformer over conversations whose linear maps run on packed utterances; only attention sees padding.

Shapes: N = utterances, C = conversations, L = longest conversation, D = width, H = heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from joyful_ray.data.batch import Layout
from joyful_ray.graph.memory import made_again


def heads_for(width: int, most: int) -> int:
    """Largest divisor of `width` that is at most `most`."""
    return next(heads for heads in range(min(most, width), 0, -1) if width % heads == 0)


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward with a norm behind each: `nn.TransformerEncoderLayer` on packed input.

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
        self.dropout = dropout
        nn.init.xavier_uniform_(self.queries_keys_values.weight)
        nn.init.zeros_(self.queries_keys_values.bias)
        nn.init.zeros_(self.attended.bias)

    def forward(self, x_ND: Tensor, layout: Layout, bias_CL: Tensor) -> Tensor:
        """Attend within each conversation; `bias_CL` is added to the logits of each key (-inf hides it)."""
        qkv = self.queries_keys_values(x_ND)
        slots = bias_CL.numel()
        numbers = slots * (6 * x_ND.shape[1] + 3 * self.heads * bias_CL.shape[1])
        mixed_ND = made_again(self._attend, qkv, layout, bias_CL, numbers=numbers, is_random=self.training)
        attended_ND = self.attended(mixed_ND)
        x_ND = self.attention_norm(x_ND + self._drop(attended_ND))
        inner_NF = relu_dropout(self.expand(x_ND), self.dropout if self.training else 0.0)
        return self.feedforward_norm(x_ND + self._drop(self.contract(inner_NF)))

    def _attend(self, qkv: Tensor, layout: Layout, bias_CL: Tensor) -> Tensor:
        padded = layout.pad(qkv)
        conversations, longest, _ = padded.shape
        query, key, value = padded.view(conversations, longest, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = bias_CL[:, None, None, :].to(query.dtype)
        drop = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=drop)
        return layout.unpad(out.transpose(1, 2).flatten(2))

    def _drop(self, x: Tensor) -> Tensor:
        # Keeps a mask of bytes, where F.dropout keeps one of floats.
        return torch.native_dropout(x, self.dropout, True)[0] if self.training and self.dropout else x


class ConversationTransformer(nn.Module):
    """A stack of `TransformerLayer` that never lets one conversation see another, nor its own padding.

    Shapes: input (N, D), output (N, D).

    Args:
        padding_mask: False gives every conversation the padding that the longest of its batch imposes, and attends to
            it, as the released code does.
            All padding of a conversation is alike there, so it is one more token whose weight is its number; in
            training its dropout is drawn once.
    """

    def __init__(
        self, width: int, *, layers: int, heads: int, feedforward: int, dropout: float, padding_mask: bool = True
    ) -> None:
        super().__init__()
        self.padding_mask = padding_mask
        heads = heads_for(width, heads)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads=heads, feedforward=feedforward, dropout=dropout) for _ in range(layers)
        )

    def forward(self, x_ND: Tensor, layout: Layout) -> Tensor:
        """Let the utterances of each conversation see each other."""
        if self.padding_mask:
            bias_CL = x_ND.new_zeros(layout.valid_CL.shape).masked_fill(~layout.valid_CL, float("-inf"))
            for layer in self.layers:
                x_ND = layer(x_ND, layout, bias_CL)
            return x_ND
        return self._attend_to_padding(x_ND, layout)

    def _attend_to_padding(self, x_ND: Tensor, layout: Layout) -> Tensor:
        padding_C = layout.longest - layout.lengths_C
        wider = Layout.of(layout.lengths_C + 1)
        is_padding = wider.position_N == layout.lengths_C[wider.conversation_N]
        real = (~is_padding).nonzero().squeeze(1)
        bias_CL = x_ND.new_zeros(wider.valid_CL.shape).masked_fill(~wider.valid_CL, float("-inf"))
        bias_CL = bias_CL.scatter(1, layout.lengths_C[:, None], padding_C.to(x_ND.dtype).log()[:, None])
        tokens = x_ND.new_zeros(len(is_padding), x_ND.shape[1]).index_copy(0, real, x_ND)
        for layer in self.layers:
            tokens = layer(tokens, wider, bias_CL)
        return tokens.index_select(0, real)


def relu_dropout(x: Tensor, ratio: float) -> Tensor:
    """ReLU, then dropout, keeping one tensor for the backward pass instead of three."""
    return _ReluDropout.apply(x, ratio)


class _ReluDropout(Function):
    """The output is positive exactly where the gradient passes, so it is all that the backward pass needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ratio: float) -> Tensor:
        out = x.relu()
        if ratio:
            out.mul_(torch.empty_like(out).bernoulli_(1.0 - ratio)).div_(1.0 - ratio)
        ctx.save_for_backward(out)
        ctx.ratio = ratio
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        return gradient * (out > 0) / (1.0 - ctx.ratio), None
