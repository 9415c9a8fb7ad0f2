"""A stand-in for CUDA graphs on the CPU: the operators of one call, run again on the same memory.

As a CUDA graph does, a replay runs no Python of the step: what depends on a Python number stays as
it was when the step was recorded, and what is given is where it was then. As on CUDA, recording
takes no step, and to read a value back to the host is refused.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {  # each waits for the device
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_consecutive",
}
CHANGES = {"aten::native_batch_norm"}  # in place, though its schema does not say so


class _Recording(TorchDispatchMode):
    """calls: (operator, its arguments, what it gave); before: each changed storage as it was."""

    def __init__(self):
        super().__init__()
        self.calls, self.before = [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func._schema.name in READS:
            raise RuntimeError(f"{func._schema.name} in a step that is recorded")
        if func._schema.is_mutable or func._schema.name in CHANGES:
            for x in tree_leaves((args, kwargs)):
                if isinstance(x, torch.Tensor):
                    storage = x.untyped_storage()
                    self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        given = func(*args, **kwargs)
        if func.namespace != "profiler":
            self.calls.append((func, args, kwargs, given))
        return given


def capture(step, inputs):
    """(replay, outputs), as experiment.cuda_graph.capture_cuda gives them."""
    random = torch.get_rng_state()
    with _Recording() as recording:
        outputs = step(*inputs)
    torch.set_rng_state(random)
    for storage, was in recording.before.values():
        storage.copy_(was)

    @torch.no_grad()
    def replay():
        for func, args, kwargs, kept in recording.calls:
            new = func(*args, **kwargs)
            if any(r.alias_info is not None for r in func._schema.returns):
                continue  # a view of what it was a view of, or its own argument
            for mine, its in zip(tree_leaves(kept), tree_leaves(new), strict=True):
                # A zero tangent of forward-mode AD has no storage to copy into.
                if isinstance(mine, torch.Tensor) and not mine._is_zerotensor():
                    mine.copy_(its)

    return replay, outputs
