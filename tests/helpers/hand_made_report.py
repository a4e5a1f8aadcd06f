"""A report with every field set, without a deployment."""

from dataclasses import replace

from spikefit.deploy.report import Provenance, Report
from spikefit.deploy.report.picture_data import (
    ChipEntry,
    CodebookEntry,
    CoreMapEntry,
    EpochEntry,
    Histogram,
    RasterRows,
    RatesEntry,
    SampleEntry,
    TrainingRecord,
)
from spikefit.deploy.report.sections import (
    CoresEntry,
    EnergyEntry,
    FindingEntry,
    LayerEntry,
    ParityEntry,
    SourcedEntry,
    Utilisation,
)

FINDING = FindingEntry("cores", "small", 1234, 3, "prune neurons", "capacity", ("fc1",), "small: cores: needs 1234.")


def epoch(number, alive, **changes) -> EpochEntry:
    entry = EpochEntry(
        number, 0.9, min(0.99, 0.8 + 0.01 * number), 2e-6 / (1 + number), (alive,), (50,), float(number > 1), False
    )
    return replace(entry, **changes)


WEIGHTS = Histogram(-1.0, 1.0, (1, 4, 2, 0, 3))
TRAINING = TrainingRecord(
    layers=("conv1",),
    units=(10,),
    masked=("fc1",),
    weights=(60,),
    energy_on="small",
    energy_without=("hops",),
    before={"conv1": WEIGHTS},
    first_values={"conv1": (-0.5, 0.5)},
    epochs=(epoch(0, 10), epoch(1, 10), epoch(2, 8), epoch(3, 6, emulated=True)),
)
RIGHT = SampleEntry(
    0, 1, 1, (3.0, 1.5), (1, 0), 4, ("0f", "80"), False, (RasterRows("conv1", 144, (0, 143), ("..1.", "2..1")),)
)
PICTURES = {
    "codebooks": (
        CodebookEntry("conv1", "Codebook", 1, WEIGHTS, (-0.75, -0.1, 0.6), (3, 5, 2), False, WEIGHTS, (-0.5, 0.5)),
        CodebookEntry("readout", None, 1, WEIGHTS, (), (), False),
    ),
    "rates": (RatesEntry("conv1", Histogram(0.0, 1.0, (100, 40, 0, 4)), 60, 4, 144),),
    "examples": (RIGHT, replace(RIGHT, sample=7, predicted=2, picture=("0f0f", "f0f0"), over_time=True)),
    "confusion": ((60, 5, 0), (0, 70, 0), (0, 0, 65)),
    "core_map": CoreMapEntry(True, 2, ("conv1", "relays"), ((0, 144), (0, 20, 1, 5)), (80, 10), (3, 4), (0, 1)),
    "training": TRAINING,
}


def layer(name, **changes) -> LayerEntry:
    entry = LayerEntry(
        name=name,
        model="lif",
        encoder=False,
        shape=(4, 6, 6),
        neurons=144,
        synapses=1000,
        unique_weights=4,
        bits=8,
        spikes=20.0,
        rate=0.125,
        synops=3000.5,
        macs=0.0,
        updates=160.0,
        overflows=0.25,
        energy_j=2e-7,
        energy_terms_j={"synops": 2e-7, "updates": None},
    )
    return replace(entry, **changes)


def report(**changes) -> Report:
    made = Report(
        target="small",
        findings=(),
        unknown_limits=("limits.fan_in",),
        figures=(
            SourcedEntry("limits.cores", 3, "a paper", "P"),
            SourcedEntry("weights.bits", (1, 8), "its source", "T"),
            SourcedEntry("energy.static_w", None, None, None),
        ),
        samples=200,
        accuracy_before_compression=0.99,
        samples_before_compression=100,
        accuracy_float=0.98,
        trained_with_integers_of="small",
        accuracy_deployed=0.975,
        time_steps=4,
        input_kind="constant",
        units_total=10,
        units_alive=6,
        cores=CoresEntry(2, 3, 1, (), 0, 1.5, {"neurons": Utilisation(0.25, 0.5)}),
        neurons=300,
        model_bytes=512,
        float_bytes=123456,
        bits_per_weight=2.0,
        energy_per_inference_j=4.1e-7,
        energy=EnergyEntry(
            model="target",
            terms_j={"synops": 4e-7, "updates": None, "hops": 1e-8},
            constants=(SourcedEntry("hop_j", 3e-12, "a paper", "P"),),
        ),
        parity=ParityEntry(1000, 0, 0),
        target_agreement=ParityEntry(1000, 1, 2),
        layers=(layer("conv1", encoder=True, macs=500.0, bits=0), layer("readout", model="readout", shape=(3,))),
        provenance=Provenance("Digits", "own/version_3", None, 7, "a" * 40, "0.1.0", "best.ckpt", 2),
        **PICTURES,
    )
    made = replace(
        made, chips=(ChipEntry.of(made), replace(ChipEntry.of(made), target="other", fits=False, partial=True))
    )
    return replace(made, **changes)
