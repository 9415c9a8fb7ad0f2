"""Attention as plain matrix products, where torch's fused kernels will not do."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.backends import mha
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def plain_attention() -> Iterator[None]:
    """Inside, attention is matrix products and a softmax, in train and in eval mode alike.

    Fused kernels have no forward-mode derivative, and no second one; counters of multiply-adds do
    not know all of them. There are two kinds: of scaled_dot_product_attention, and of
    nn.MultiheadAttention as a whole, which it takes in eval mode where no gradient is wanted.
    """
    fast_path = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mha.set_fastpath_enabled(fast_path)


def has_tangent(layer: nn.Module, x: Tensor) -> bool:
    """Whether layer(x) is under forward-mode AD, by a tangent of x or of one of its parameters."""
    return any(unpack_dual(t).tangent is not None for t in (x, *layer.parameters()))
