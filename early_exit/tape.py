"""The derivative of a pass that has been made, along a direction, without making it again.

torch's forward-mode AD computes a function and its tangent together. In L2W the function has been
computed already, for the real step, at the same weights and on the same images, and autograd holds
all that its derivative needs. A `Tape` notes the operations of that pass and then carries tangents
alone through them, by the rules of tangents.py: two convolutions for each one of the pass in the
place of three, and the dropout of the pass itself, so that no random state is kept and restored.

What it keeps is by reference what autograd keeps for the backward pass, and the inputs of the few
operations without a rule. It gives the whole derivative or refuses, and then the pass has to be
made again in forward mode (meta_gradient.py).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from early_exit.tangents import Call, Push, Refused, each, rule, tensors_of


class _Step(NamedTuple):
    sources: list[int | None]  # which value each tensor is, None for one without a tangent
    gives: list[int]
    push: Push
    reads: list[tuple[Tensor, int]]  # with the versions that they must still have


class Tape(TorchDispatchMode):
    """Notes, while it is entered, all that is computed from `params`, which require grad.

    One pass a tape. It holds tensors of the pass until it is dropped. Under torch.compile it sees
    nothing, and refuses.
    """

    def __init__(self, params: Iterable[Tensor]):
        super().__init__()
        self.refused = ""
        self.steps: list[_Step] = []
        self.numbers = WeakTensorKeyDictionary()  # of each tensor's last value
        self.versions: list[int] = []  # of each value's tensor, as autograd counts them
        self.params = [self._number(p, p._version) for p in params]

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = tensors_of(args, kwargs)
        if self.refused or operation is _DETACH or not any(x.requires_grad for x in inputs):
            return operation(*args, **kwargs)
        before = [x._version for x in inputs]
        found = operation(*args, **kwargs)
        try:
            self._note(Call(operation, args, kwargs, inputs, found), before)
        except Refused as reason:
            self.refused = f"{operation} {reason}"
        return found

    def along(self, directions: Iterable[Tensor], value: Tensor) -> Tensor:
        """The derivative of `value`, which the pass gave, along `directions`, one a parameter.

        Shaped as `value`, without a graph. Raises Refused where the pass held what a tape cannot
        follow, or where a tensor that it needs has been changed since.
        """
        if self.refused or value not in self.numbers:
            raise Refused(self.refused or "the value is not of this pass")
        wanted = self.numbers[value]
        tangents: dict[int | None, Tensor] = dict(zip(self.params, directions, strict=True))
        last = {source: i for i, step in enumerate(self.steps) for source in step.sources}
        last[wanted] = len(self.steps)
        with torch.no_grad(), warnings.catch_warnings():
            # The first dual tensor makes torch script decompositions, which it calls deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            for i, step in enumerate(self.steps):
                if any(x._version != version for x, version in step.reads):
                    raise Refused("a tensor of the pass has been changed in place")
                given = [tangents.get(source) for source in step.sources]
                if any(t is not None for t in given):
                    found = each(step.push(*given))
                    for number, tangent in zip(step.gives, found, strict=False):
                        if tangent is not None and number in last:
                            tangents[number] = tangent
                for source in step.sources:
                    if last[source] == i:
                        tangents.pop(source, None)
        return tangents[wanted]

    def _number(self, x: Tensor, version: int) -> int:
        number = len(self.versions)
        self.numbers[x] = number
        self.versions.append(version)
        return number

    def _note(self, call: Call, before: list[int]) -> None:
        outputs = [x for x in each(call.found) if isinstance(x, Tensor)]
        if not outputs:
            return
        # Without requires_grad there is no derivative into a tensor, whatever it was made of.
        sources = [self.numbers.get(x) if x.requires_grad else None for x in call.tensors]
        for x, source, version in zip(call.tensors, sources, before, strict=True):
            if x.requires_grad and (source is None or self.versions[source] != version):
                raise Refused("has an input that was made elsewhere, or changed beside the pass")
        push, reads = rule(call)
        # Autograd counts a change in place after this call; a view has the count of what it shows.
        changes, shows = _aliases(call.operation)
        version = before[0] + changes if shows else 0
        after = {id(x): v for x, v in zip(call.tensors, before, strict=True)}
        after |= {id(x): version for x in outputs}
        gives = [self._number(x, version) for x in outputs]
        self.steps.append(_Step(sources, gives, push, [(x, after[id(x)]) for x in reads]))


@functools.cache
def _aliases(operation: Any) -> tuple[bool, bool]:
    """Whether it changes its first tensor in place, and whether it gives what that one shows."""
    schema = operation._schema
    return schema.is_mutable, any(r.alias_info is not None for r in schema.returns)


_DETACH = torch.ops.aten.detach.default  # autograd's own, of what it keeps; else it ends a tangent
