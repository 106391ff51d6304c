"""Masked-token and masked-patch pretraining: what is corrupted, and the score of what was masked."""

from sslkernels._exports import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "layers": ("ClusterRandomTokenSubstitution", "MaskedLM", "RandomTokenSubstitution", "SwappedLM"),
        "linear_cross_entropy.op": ("masked_linear_cross_entropy",),
        "patches.op": ("gather_visible", "patch_mask", "scatter_visible"),
        "results": ("Corruption", "PatchMask"),
        "sampling.op": ("sample_tokens",),
        "schedule": ("mask_rate",),
        "spans.op": ("geometric_span_groups", "span_corruption", "span_mask"),
        "tokens.clusters": ("TokenClusters",),
        "tokens.op": ("corrupt_tokens", "row_uniform"),
    },
)
