# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a flowgraph that grcc generated, without a screen, and closes its window as a user would.

For a process of its own: `python -c "from companion import watch; watch(...)"`.
"""

import importlib
import json
import os
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def environment() -> dict:
    """Of grcc and of what it generates."""
    return os.environ | {
        "GRC_BLOCKS_PATH": str(HERE.parent / "grc"),
        "QT_QPA_PLATFORM": "offscreen",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}",
    }


def watch(name, enough, found, begin=lambda top: None, seconds=60.0):
    """Module `name`: begin(top) when it starts; once enough(top), or after so many seconds, prints
    found(top) as JSON and ends the process. top.shown: the display's last point of each receiver at
    each SNR.
    """
    from PyQt5 import Qt

    module = importlib.import_module(name)

    class Watched(getattr(module, name)):
        def __init__(self):
            super().__init__()
            self.shown = {}
            self.display.widget.received.connect(self.note)
            self.limit = time.monotonic() + seconds
            self.timer = Qt.QTimer()
            self.timer.timeout.connect(self.look)
            self.timer.start(100)
            begin(self)

        def note(self, made):
            for point in made["points"]:
                self.shown[point["receiver"], point["snr_db"]] = point

        def points(self, slots):
            return [p for p in self.shown.values() if p["slots"] >= slots]

        def look(self):
            if enough(self) or time.monotonic() > self.limit:
                self.timer.stop()
                print(json.dumps(found(self)), flush=True)
                self.close()

    module.main(top_block_cls=Watched)
    os._exit(0)  # PyQt may crash while Python takes its windows apart
