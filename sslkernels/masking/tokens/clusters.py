"""TokenClusters: which cluster a random token comes from, and what the detector has learnt to see through."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sslkernels.masking.tokens.arguments import MAX_VOCABULARY

_MAX_CLUSTERS = 1 << 13  # the (C, C) table of counts stays below 512 MiB
Tables = tuple[Tensor, Tensor, Tensor, Tensor]


class TokenClusters(torch.nn.Module):
    """The clusters of cluster-based random token substitution, C-RTS.

    cluster_of    int64 (V,): the cluster of every token; numbers may have gaps; C is the largest one plus 1
    beta          how sharply clusters that fooled the detector are preferred
    excluded_ids  tokens that are never drawn

    Module without parameters. `counts` int64 (C, C), a buffer, starts at 1: for a token of cluster i replaced
    by one of cluster j, `counts[i, j]` goes up where the detector was fooled and down where it was not.
    Source: Di Liello et al., Findings of EMNLP 2022.
    """

    def __init__(self, cluster_of: Tensor, beta: float = 2.0, excluded_ids: Iterable[int] = ()) -> None:
        super().__init__()
        cluster_of = torch.as_tensor(cluster_of)
        if cluster_of.dtype not in (torch.int64, torch.int32) or cluster_of.dim() != 1:
            raise ValueError(
                f"cluster_of must be int64 (V,), got {cluster_of.dtype} {tuple(cluster_of.shape)}"
            )
        number = int(cluster_of.max()) + 1 if len(cluster_of) else 0
        if len(cluster_of) > MAX_VOCABULARY or (len(cluster_of) and int(cluster_of.min()) < 0):
            raise ValueError("cluster_of must hold numbers >= 0 of fewer than 2^31 tokens")
        if number > _MAX_CLUSTERS:
            raise ValueError(f"cluster_of must lie in [0, {_MAX_CLUSTERS}), got {number - 1}")
        if not 0 <= beta < float("inf"):
            raise ValueError(f"beta must be finite and at least 0, got {beta}")
        self.beta = float(beta)
        self.excluded_ids = tuple(sorted({int(token) for token in excluded_ids}))
        self.cluster_of: Tensor
        self.counts: Tensor
        self.register_buffer("cluster_of", cluster_of.detach().to(torch.int64, copy=True), persistent=False)
        self.register_buffer("counts", torch.ones(number, number, dtype=torch.int64))
        self._cache: dict[Any, Any] = {}

    @property
    def weights(self) -> Tensor:
        """(C, C), row-stochastic: softmax(beta * minmax(counts)) of each row."""
        return torch.softmax(self._scores(), dim=1).to(torch.get_default_dtype())

    def _scores(self) -> Tensor:
        """beta * minmax(counts) in float64; a row of equal counts is 0."""
        counts = self.counts.double()
        low, high = counts.amin(1, keepdim=True), counts.amax(1, keepdim=True)
        return self.beta * (counts - low) / (high - low).clamp(min=1)

    @torch.no_grad()
    def update(self, original_ids: Tensor, replaced_ids: Tensor, fooled: Tensor, where: Tensor) -> None:
        """counts += 1 where the detector was fooled, -= 1 where not, at `where`; duplicates all count.

        All four of one shape; ids int32 or int64, `fooled` and `where` bool. Ids at `where` outside the
        vocabulary raise ValueError.
        """
        for name, value, kinds in (
            ("original_ids", original_ids, (torch.int64, torch.int32)),
            ("replaced_ids", replaced_ids, (torch.int64, torch.int32)),
            ("fooled", fooled, (torch.bool,)),
            ("where", where, (torch.bool,)),
        ):
            if value.dtype not in kinds or value.shape != original_ids.shape:
                raise ValueError(
                    f"{name} must be {' or '.join(map(str, kinds))} of shape {tuple(original_ids.shape)}, "
                    f"got {value.dtype} {tuple(value.shape)}"
                )
        inside = where
        for name, ids in (("original_ids", original_ids), ("replaced_ids", replaced_ids)):
            known = (ids >= 0) & (ids < len(self.cluster_of))
            # On a GPU looking at values would wait for them: there ids outside are skipped.
            if not (torch.compiler.is_compiling() or ids.is_cuda) and not bool((known | ~where).all()):
                raise ValueError(f"{name} must lie in [0, {len(self.cluster_of)}) at `where`")
            inside = inside & known
        if self.counts.numel() == 0:
            return
        row, column = (self.cluster_of[torch.where(inside, ids, 0)] for ids in (original_ids, replaced_ids))
        change = torch.where(inside, torch.where(fooled, 1, -1), 0)
        place = row * self.counts.shape[1] + column
        self.counts.view(-1).index_add_(0, place.reshape(-1), change.reshape(-1))

    def tables(self, special_ids: list[int], device: torch.device | str) -> Tables:
        """What corrupt_tokens draws by.

        int32 clusters (V,); tokens (V,), cluster by cluster, those that are never drawn last; offsets (C+1,);
        and int64 limits (C, C), whose row i is the cumulative distribution of the clusters drawn for cluster
        i, in units of 2^-32.
        """
        device = torch.device(device)
        if torch.compiler.is_compiling():
            layout = self._layout(special_ids, device)
            return (*layout, self._limits(layout[2]))
        key = (tuple(special_ids), device, self.cluster_of.data_ptr(), self.cluster_of._version)
        if self._cache.get("layout_key") != key:
            self._cache = {"layout_key": key, "layout": self._layout(special_ids, device)}
        layout = self._cache["layout"]
        version = (self.counts.data_ptr(), self.counts._version)
        if self._cache.get("version") != version:
            self._cache |= {"version": version, "limits": self._limits(layout[2])}
        return (*layout, self._cache["limits"])

    def _layout(self, special_ids: list[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        number = self.counts.shape[0]
        cluster_of = self.cluster_of.to(device)
        never = torch.tensor([*special_ids, *self.excluded_ids], dtype=torch.int64, device=device)
        drawn = torch.isin(torch.arange(len(cluster_of), device=device), never, invert=True)
        sorted_by = torch.where(drawn, cluster_of, number)
        sizes = torch.zeros(number + 1, dtype=torch.int64, device=device)
        sizes.index_add_(0, sorted_by, torch.ones_like(sorted_by))
        ptr = torch.nn.functional.pad(sizes[:number].cumsum(0), (1, 0))
        return cluster_of.int(), torch.argsort(sorted_by, stable=True).int(), ptr.int()

    def _limits(self, ptr: Tensor) -> Tensor:
        """Clusters that hold nothing to draw have no width; the last one that does ends at 2^32."""
        drawable = ptr.diff() > 0
        scores = self._scores().to(ptr.device).masked_fill(~drawable, float("-inf"))
        shares = torch.softmax(scores, dim=1).nan_to_num(nan=0.0).cumsum(1)
        limits = (shares.clamp(max=1.0) * 4294967296.0 + 0.5).long()
        behind = (
            drawable.long().flip(0).cumsum(0).flip(0) - drawable.long()
        )  # drawable clusters after this one
        return torch.where((behind == 0) & drawable.cumsum(0).bool(), 1 << 32, limits)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cache": {}}  # the tables are made again where they are needed

    def extra_repr(self) -> str:
        return f"tokens={len(self.cluster_of)}, clusters={self.counts.shape[0]}, beta={self.beta}"
