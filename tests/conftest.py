# SPDX-License-Identifier: GPL-3.0-or-later
import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _flowgraphs_end_with_their_module():
    """Python holds flowgraphs in cycles, and receivers left over decide the process's threads."""
    yield
    gc.collect()
