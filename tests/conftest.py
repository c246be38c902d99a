# SPDX-License-Identifier: GPL-3.0-or-later
import gc
import signal

import pytest

# A shell starts background jobs with Ctrl-C ignored, and they hand that on to what they start
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def _flowgraphs_end_with_their_module():
    """Python holds flowgraphs in cycles, and receivers left over decide the process's threads."""
    yield
    gc.collect()


@pytest.fixture
def logged_from_info():
    """Blocks log from level info on, as in a program: commands of other tests leave less."""
    from gnuradio import gr

    level = gr.logging().default_level()
    gr.logging().set_default_level(gr.log_levels.info)
    yield
    gr.logging().set_default_level(level)
