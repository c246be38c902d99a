# SPDX-License-Identifier: GPL-3.0-or-later
import sys

from deeprx_common.stopping import quit_on_ctrl_c

quit_on_ctrl_c()
from .cli import main  # noqa: E402

status = main()
quit_on_ctrl_c()
sys.exit(status)
