"""Whether a stage computes in float32 or, where the processor has the instructions, in bfloat16.

In bfloat16 the weights, the statistics of batch norm, the loss and Adam stay float32; see `edgepain.train.models.bf16`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from edgepain.errors import ConfigError
from edgepain.train.config import Precision

Arithmetic = Literal["fp32", "bf16"]


def bf16_supported() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32, and this torch has oneDNN to do it."""
    return torch._C._has_mkldnn and torch.cpu._is_avx512_bf16_supported()


def resolve(precision: Precision, has_bf16: bool | None = None) -> Arithmetic:
    """What `precision` means where `has_bf16` says whether there is bfloat16; without it, on this processor.

    Raises ConfigError for bf16 where there is none.
    """
    if has_bf16 is None:
        has_bf16 = bf16_supported()
    if precision == "auto":
        return "bf16" if has_bf16 else "fp32"
    if precision == "bf16" and not has_bf16:
        raise ConfigError("this processor has no bfloat16 instructions (AVX512-BF16); set precision to auto or fp32")
    return precision


def computing(arithmetic: Arithmetic) -> AbstractContextManager[object]:
    """The context in which a block is run forward while it trains."""
    return torch.autocast("cpu", torch.bfloat16) if arithmetic == "bf16" else nullcontext()
