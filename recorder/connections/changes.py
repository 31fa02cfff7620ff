"""Whether a tensor still holds what it held: what tells of changes in place."""

from __future__ import annotations

import torch

_CHUNK = 2**22
_SEED = 2_026


def state_of(tensor: torch.Tensor) -> object:
    """Something that is equal for tensors of one memory only if nobody has written into it in between.

    Torch counts what is written, under ``torch.no_grad`` too, and views share the count. Tensors of
    ``torch.inference_mode`` have none: of these it is a sum over all bytes, with weights drawn at random,
    which two contents have in common once in 2⁶⁴.
    """
    if not tensor.is_inference():
        return tensor._version  # noqa: SLF001 - what torch.autograd itself asks
    memory = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
    generator = torch.Generator(device="cpu").manual_seed(_SEED)
    length = min(_CHUNK, max(len(memory), 1))
    weights = torch.randint(-(2**62), 2**62, (length,), generator=generator).to(tensor.device)
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for chunk in torch.split(memory, _CHUNK):
        total = total * 6_364_136_223_846_793_005 + (chunk.to(torch.int64) * weights[: len(chunk)]).sum()
    return "bytes", int(total)
