"""A bundle becomes something that answers: windows in, logits out, checked against the golden windows first."""

from edgepain.engine.base import Engine, softmax
from edgepain.engine.choose import choose_engine
from edgepain.engine.golden import check_golden
from edgepain.engine.onnx import OnnxEngine, open_engine

__all__ = ["Engine", "OnnxEngine", "check_golden", "choose_engine", "open_engine", "softmax"]
