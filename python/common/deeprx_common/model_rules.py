# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model file may be: model_rules.json, which the C++ library is built with, too."""

import json
from pathlib import Path

RULES = json.loads(Path(__file__).with_suffix(".json").read_text())
LIMITS: dict[str, int] = RULES["limits"]
