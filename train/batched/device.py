"""The device on which folds are trained together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from edgepain.errors import ConfigError
from edgepain.train.config import EpochChoice, Precision, Size
from edgepain.train.precision import Arithmetic

DeviceName = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Device:
    """Made by `open_device`. has_bf16: whether many folds can be trained there in bfloat16."""

    torch: torch.device
    has_bf16: bool


def open_device(name: DeviceName) -> Device:
    """A device to train many folds at once on. Raises ConfigError for `cuda` where there is no GPU.

    On the CPU, `has_bf16` is False: the layers that are fast in bfloat16 there are those of one network.
    """
    if name == "cpu":
        return Device(torch.device("cpu"), False)
    if not torch.cuda.is_available():
        raise ConfigError(
            f"--device cuda: torch {torch.__version__} finds no CUDA GPU here; leave --device out, or install a driver "
            "and a torch that go with the GPU"
        )
    return Device(torch.device("cuda"), torch.cuda.is_bf16_supported(including_emulation=False))


def check_settings(
    device: Device, precision: Precision, epoch_choice: EpochChoice, size: Size = "full", taught: bool = False
) -> None:
    """Raise ConfigError for what cannot be trained many folds at once. taught: the run has a teacher."""
    if taught or size != "full":
        what = "with --distill" if taught else f"of --size {size}"
        raise ConfigError(f"a network {what} is trained fold by fold; leave out --device and --batch-folds")
    if epoch_choice == "test-fold":
        raise ConfigError(
            "folds trained together all keep their last epoch; leave out --device and --batch-folds to choose it on "
            "the test fold"
        )
    if precision == "bf16" and not device.has_bf16:
        raise ConfigError(f"{device.torch} does not train folds together in bf16; set precision to auto or fp32")


@contextmanager
def enough_memory(device: Device, folds: int) -> Iterator[None]:
    """Raise ConfigError where the device has too little memory for so many folds at once."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"{device.torch} has too little memory for {folds} folds at once; go on with a smaller --batch-folds"
        ) from error


@contextmanager
def float32_products(arithmetic: Arithmetic) -> Iterator[None]:
    """What is still multiplied in float32 where training is in bfloat16 may be so in TF32; otherwise it is exact."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if arithmetic == "bf16" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
