# SPDX-License-Identifier: GPL-3.0-or-later
"""Who students learn from."""

import hashlib

import torch

from deeprx_common.modulation import MODULATIONS
from deeprx_common.slot import SlotConfig

from ..data.channels import SlotBatch
from ..data.feed import code_sha256
from ..files import TrainingError
from ..receivers import classical, nets, pusch, realtime
from ..receivers.build import check_takes
from ..receivers.contract import of_contract
from ..reference import Reference
from . import precision
from .checkpoint import load_receiver
from .recipe import Recipe


class Teacher:
    """A recipe's teacher on a device: its LLRs of a batch, float [B, L, S, K, b].

    sha256: of all that its LLRs on given slots depend on, hexadecimal. TrainingError where it
    cannot receive the recipe's slots.
    """

    def __init__(self, recipe: Recipe, device: torch.device):
        net = load_receiver(recipe.teacher, rebuild=True)[1].requires_grad_(False)
        try:
            check_takes(net, recipe.data)
        except ValueError as error:
            raise TrainingError(f"{recipe.teacher}: data.{error}") from None
        # no gradients, so nothing that could go wrong in bfloat16
        kind, form = precision.usual(recipe.precision, device.type == "cuda"), ""
        if isinstance(net, nets.DeepRx):
            kind = "float32"  # in bfloat16 its LLRs are off, and export refuses it
            if device.type == "cuda":  # on an H200 six times as fast, on a processor slower
                net, form = nets.dense_form(net), "dense "
        self.net = precision.cast(net, kind, device).to(device)
        self._program = of_contract(self.net)
        self._try(recipe, device)
        named = Reference.parse(recipe.teacher)
        code = code_sha256(classical, realtime, nets, pusch)
        what = f"{named.member}@{named.rounds} {form}in {kind} by {code}".encode()
        self.sha256 = hashlib.sha256(named.file.read_bytes() + what).hexdigest()

    def _try(self, recipe: Recipe, device: torch.device) -> None:
        data = recipe.data
        most = max(data.modulations, key=MODULATIONS.get)
        config = data.slot(most, next(iter(data.dmrs)))
        p = torch.view_as_real(torch.from_numpy(config.pilots()[None])).to(device)
        y = torch.ones(1, data.n_rx, *p.shape[2:], device=device)
        try:
            self._receive(y, p, torch.from_numpy(config.data_mask).to(device), config)
        except RuntimeError as error:
            raise TrainingError(
                f"{recipe.teacher}: cannot receive {data.n_prb} PRB in {most} with {data.n_rx} "
                f"antennas: {str(error).splitlines()[-1].strip()}"
            ) from None

    def __call__(self, batch: SlotBatch) -> torch.Tensor:
        return self._receive(batch.y, batch.p, batch.data, batch.config).float()

    @torch.no_grad()
    def _receive(self, y, p, data, config: SlotConfig) -> torch.Tensor:
        orders = [user.bits_per_symbol for user in config.users]
        return self._program(y, p, data, orders)[..., : max(orders)]
