# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts over clusters."""

from array import array
from bisect import bisect_left

import numpy as np


class ClusterCounts:
    """How many of how many there were in each cluster: 24 bytes a cluster, as a receiver may run
    for months.

    clusters uint64, counts and of int64, [clusters] each, in the clusters' order.
    """

    def __init__(self):
        self._clusters, self._counts, self._of = array("Q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self._clusters)

    def add(self, cluster: int, count: int, of: int) -> None:
        """Count so many of so many more in a cluster, mostly the last one."""
        at = len(self) - 1
        if at < 0 or self._clusters[at] != cluster:
            at = bisect_left(self._clusters, cluster)
            if at == len(self) or self._clusters[at] != cluster:
                self._clusters.insert(at, cluster)
                self._counts.insert(at, 0)
                self._of.insert(at, 0)
        self._counts[at] += count
        self._of[at] += of

    @property
    def clusters(self) -> np.ndarray:
        return np.array(self._clusters)

    @property
    def counts(self) -> np.ndarray:
        return np.array(self._counts)

    @property
    def of(self) -> np.ndarray:
        return np.array(self._of)
