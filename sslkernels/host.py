"""The NumPy face: the same native cores for NumPy arrays, without torch.

For data-loader workers and `datasets.map`: same arguments, same NamedTuples and the same bits as the torch
functions of the rooms, the GIL released while a core runs. Importing this module imports neither torch nor
NumPy; the first call imports NumPy.
"""

from sslkernels._exports import lazy

__getattr__, __all__ = lazy(
    "sslkernels",
    {
        "eulerian.walks.host": ("serialize", "deserialize", "reindex"),
        "masking.tokens.host": ("corrupt_tokens",),
    },
)
