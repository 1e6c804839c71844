"""Many folds trained at once, for devices that one small network leaves idle."""

from edgepain.train.batched.device import Device, check_settings, enough_memory, float32_products, open_device
from edgepain.train.batched.engine import DEFAULT_FOLDS, FoldsTogether
from edgepain.train.batched.stage import Member, train_together

__all__ = [
    "DEFAULT_FOLDS",
    "Device",
    "FoldsTogether",
    "Member",
    "check_settings",
    "enough_memory",
    "float32_products",
    "open_device",
    "train_together",
]
