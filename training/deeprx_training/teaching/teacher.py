# SPDX-License-Identifier: GPL-3.0-or-later
"""Who students learn from."""

import hashlib

import torch

from deeprx_common.modulation import MODULATIONS

from ..data.channels import LayerBatch
from ..data.feed import code_sha256
from ..files import TrainingError
from ..receivers import classical, nets, realtime
from ..receivers.build import NETS
from ..receivers.contract import check_taken
from ..reference import Reference
from . import precision
from .checkpoint import load_receiver
from .recipe import Recipe


class Teacher:
    """A recipe's teacher on a device: its LLRs of a batch, float [B, 14, K, b].

    sha256: of all that its LLRs on given slots depend on, hexadecimal. TrainingError where it
    cannot receive the recipe's slots.
    """

    def __init__(self, recipe: Recipe, device: torch.device):
        net = load_receiver(recipe.teacher, rebuild=True)[1].requires_grad_(False)
        if type(net) in NETS.values():
            try:
                check_taken(recipe.data)
            except ValueError as error:
                raise TrainingError(f"{recipe.teacher}: data.{error}") from None
        # no gradients, so nothing that could go wrong in bfloat16
        kind = precision.usual(recipe.precision, device.type == "cuda")
        self.net = precision.cast(net, kind, device).to(device)
        self._try(recipe, device)
        named = Reference.parse(recipe.teacher)
        code = code_sha256(classical, realtime, nets)
        what = f"{named.member}@{named.rounds} in {kind} by {code}".encode()
        self.sha256 = hashlib.sha256(named.file.read_bytes() + what).hexdigest()

    def _try(self, recipe: Recipe, device: torch.device) -> None:
        data = recipe.data
        most = max(data.modulations, key=MODULATIONS.get)
        config = data.slot(most, next(iter(data.dmrs)))
        p = torch.view_as_real(torch.from_numpy(config.pilots()[:1])).to(device)
        y = torch.ones(1, data.n_rx, *p.shape[1:], device=device)
        try:
            with torch.no_grad():
                self.net(y, p, config.bits_per_symbol)
        except RuntimeError as error:
            raise TrainingError(
                f"{recipe.teacher}: cannot receive {data.n_prb} PRB in {most} with {data.n_rx} "
                f"antennas: {str(error).splitlines()[-1].strip()}"
            ) from None

    def __call__(self, batch: LayerBatch) -> torch.Tensor:
        bits = batch.config.bits_per_symbol
        with torch.no_grad():
            return self.net(batch.y, batch.p, bits)[..., :bits].float()
