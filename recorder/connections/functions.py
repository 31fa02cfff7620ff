"""Names of functions of torch: those that only change a shape, and those that make products."""

from __future__ import annotations

from typing import Final


def _named(names: str) -> frozenset[str]:
    return frozenset(names.split())


# The result has the elements of the first argument, in their order, copied or not.
SAME_ELEMENTS: Final = _named(
    "reshape reshape_as view view_as flatten unflatten ravel contiguous clone detach alias "
    "to type type_as float half double bfloat16 cpu cuda"
)
# The result has elements of an input of the network several times, or of several inputs.
REARRANGED: Final = _named("repeat tile repeat_interleave stack cat concat __getitem__")
# What a weight layer may do, and what attention does.
PRODUCTS: Final = _named(
    "matmul __matmul__ __rmatmul__ mm sparse_mm _sparse_mm bmm mv addmm addmm_ addbmm baddbmm baddbmm_ addmv "
    "dot inner outer einsum tensordot chain_matmul multi_dot linear bilinear embedding_bag "
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention "
    "multi_head_attention_forward _native_multi_head_attention _transformer_encoder_layer_fwd "
    "rnn_tanh rnn_relu lstm gru rnn_tanh_cell rnn_relu_cell lstm_cell gru_cell"
)
