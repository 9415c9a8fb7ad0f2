"""Attention as plain matrix products, where torch's fused kernels will not do."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

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


def attention_of(layer: nn.Module, tokens: Tensor) -> AbstractContextManager:
    """Computes attention by plain matrix products under forward-mode AD, else by torch's kernel.

    torch 2.15 has no forward derivative of the fused kernels ("Trying to use forward AD with
    _scaled_dot_product_flash_attention_for_cpu that does not support it"), nor of
    nn.MultiheadAttention's fast path in eval mode. A training step of ViTExits at the defaults
    takes 10 % longer without these kernels (0.43 against 0.39 s, batch 64, one core), so they are
    only turned off if there is a tangent.
    """
    if not has_tangent(layer, tokens):
        return nullcontext()
    # torch.compile does not support the switch in plain_attention, which only eval mode needs.
    return sdpa_kernel(SDPBackend.MATH) if layer.training else plain_attention()


def has_tangent(layer: nn.Module, x: Tensor) -> bool:
    """Whether layer(x) is under forward-mode AD, by a tangent of x or of one of its parameters."""
    return any(unpack_dual(t).tangent is not None for t in (x, *layer.parameters()))
