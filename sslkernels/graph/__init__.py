"""Message passing and attention over molecules and other ragged graphs."""

from sslkernels._exports import lazy

__getattr__, __all__ = lazy(__name__, {"segments.op": ("segment_softmax",)})
