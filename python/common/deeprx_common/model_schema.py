# SPDX-License-Identifier: GPL-3.0-or-later
"""deeprx.json of a model file, "deeprx.model/2": declared here for Python and the documentation.

The block reads what it needs of it and checks that once more (model_info.cc).
"""

from .schema import (
    COUNT,
    COUNTED,
    DICT,
    INDICES,
    INTERVAL,
    NUMBER,
    POSITIVE,
    RATE,
    RATES,
    TEXT,
    TEXTS,
    WHOLE,
    check,
    partial,
    several,
    table,
)

CONTRACT = "deeprx.model/2"
OLD_CONTRACT = "deeprx.model/1"
WEIGHTS = "weights.safetensors"  # among the archive's extra files

FLOP = {
    "n_prb": POSITIVE.of("PRB of the slot that was counted."),
    "n_rx": COUNT.of("Its antennas."),
    "bits": COUNT.of("Its bits a symbol.", True),
    "matmul": COUNT.of("FLOP of convolutions and matrix products, two a multiply-accumulate."),
    "other": COUNT.of("FLOP of everything else, by documented formula."),
}
TRAINED = {
    "channels": TEXTS.of("3GPP channel models."),
    "delay_spread_s": INTERVAL.of("Least and most delay spread in seconds."),
    "doppler_hz": INTERVAL.of("Doppler in Hz, likewise."),
    "snr_db": INTERVAL.of("SNR in dB, likewise."),
    "sir_db": INTERVAL.or_null("SIR in dB of an interferer; null: there was none."),
    "modulations": TEXTS.of("Modulations."),
    "dmrs_symbols": INDICES.of("How many DMRS symbols a slot had."),
    "n_rx": INDICES.of("Antennas."),
}
LIMIT = {
    "condition": TEXT.of("What was received, in words."),
    "errors_over_classical": NUMBER.of("Bit errors over those of the best classical receiver."),
    "ci95": INTERVAL.of("Its 95 % interval, paired over slots."),
    "classical": TEXT.of("Which classical receiver was best."),
}
MEASURED = {
    "domain": TEXT.of("frequency, or time with inter-carrier interference and residual offsets."),
    "channel": TEXT.of("3GPP channel models, joined by +."),
    "modulation": TEXT.of("Modulation."),
    "dmrs": INDICES.of("DMRS symbols."),
    "sinr_db": NUMBER.of("SINR in dB a data resource element and antenna."),
    "ber": RATE.of("Uncoded bit error rate."),
    "ber_ci95": RATES.of("Its 95 % interval over clusters."),
    "slots": COUNT.of("Slots."),
    "clusters": COUNT.of("Independent channels among them."),
    "seed": WHOLE.of("Seed of the slots."),
}
MODEL = {
    "contract": TEXT.of(f"{CONTRACT!r}: what forward() takes and gives."),
    "name": TEXT.of("The receiver's name in reports."),
    "kind": TEXT.of("teacher, student or baseline.", optional=True),
    "precision": TEXT.of("Of the convolutions: float32, bfloat16 or int8.", optional=True),
    "requires": TEXTS.of("What a machine must have: cuda, or instructions for bfloat16 or int8."),
    "quantized_engine": TEXT.or_null("LibTorch's engine of int8 operators; null: none."),
    "engines": TEXTS.of("Forms that the file holds: torchscript, openvino, native.", optional=True),
    "layers": INDICES.of("Numbers of layers that it takes: 1, 2."),
    "n_rx": INDICES.of("Numbers of antennas that it takes."),
    "n_prb": COUNTED.of("The fewest and the most PRB that it takes."),
    "prb_multiple_of": POSITIVE.of("It takes multiples of so many PRB."),
    "scs_khz": INDICES.or_null("Subcarrier spacings in kHz that it takes; null: any.", True),
    "n_sym": INDICES.of("Numbers of symbols of a slot that it takes."),
    "dmrs": several(INDICES).or_null("Lists of DMRS symbols that it takes; null: any."),
    "n_dmrs": INDICES.of("Numbers of DMRS symbols that it takes."),
    "cdm_groups": INDICES.of("Numbers of CDM groups without data that it takes: 1, 2."),
    "modulations": TEXTS.of("Modulations that it takes."),
    "bits": COUNT.of("LLRs that it gives for a resource element, at most."),
    "params": COUNT.of("Parameters.", optional=True),
    "flop_per_slot": table(FLOP).or_null("What a slot costs.", optional=True),
    "trained": table(partial(TRAINED)).or_null("Ranges of the training slots.", True),
    "limits": several(table(LIMIT)).or_null("Against the best classical receiver.", True),
    "net": DICT.or_null(
        f"A net of deeprx_training and its numbers, whose weights {WEIGHTS} holds; null: another.",
        True,
    ),
    "training": DICT.of("Recipe, its hash, steps; empty: nothing was trained.", optional=True),
    "ber": several(table(MEASURED)).of("Bit error rates as measured.", optional=True),
    "torch": TEXT.of("PyTorch that wrote it.", optional=True),
    "git": TEXT.of("Revision of gr-deeprx that wrote it.", optional=True),
    "licence": TEXT.of("SPDX identifier.", optional=True),
}


def expect_contract(metadata: dict) -> None:
    """Raises ValueError with one line where a file's deeprx.json is of another contract."""
    contract = metadata.get("contract")
    if contract == OLD_CONTRACT:
        raise ValueError(
            f"contract is {OLD_CONTRACT!r}, expected {CONTRACT!r}: `./dev train convert FILE.pt` "
            "converts the file"
        )
    if contract != CONTRACT:
        raise ValueError(f"expected contract {CONTRACT!r}, found {contract!r:.80}")


def check_metadata(metadata: dict) -> None:
    """Raises ValueError with one line where a file's deeprx.json departs from its schema."""
    expect_contract(metadata)
    check(metadata, MODEL, "deeprx.json")
