"""Run by the Python of brian2-loihi's environment: cases as JSON in, weights, membranes and spikes as JSON out."""

import json
import sys

import brian2
import numpy as np
from brian2_loihi import (
    LoihiNetwork,
    LoihiNeuronGroup,
    LoihiSpikeGeneratorGroup,
    LoihiSpikeMonitor,
    LoihiStateMonitor,
    LoihiSynapses,
    synapse_sign_mode,
)

brian2.prefs.codegen.target = "numpy"


def run(case: dict) -> dict:
    """One group of neurons driven by spikes: currents last one step, the reset is to zero."""
    brian2.start_scope()
    weights = np.array(case["weights"])  # [out, in]
    spikes = np.array(case["spikes"])  # [T, in]
    steps, inputs = np.nonzero(spikes)
    source = LoihiSpikeGeneratorGroup(spikes.shape[1], inputs, steps)
    neurons = LoihiNeuronGroup(
        len(weights), threshold_v_mant=case["threshold"], decay_v=case["decay"], decay_I=4096, refractory=1
    )
    synapses = LoihiSynapses(source, neurons, sign_mode=synapse_sign_mode.MIXED, w_exp=case["exponent"])
    synapses.connect()
    synapses.w = weights.T.flatten()
    membrane, fired = LoihiStateMonitor(neurons, "v"), LoihiSpikeMonitor(neurons)
    network = LoihiNetwork(source, neurons, synapses, membrane, fired)
    network.run(len(spikes))
    out = np.zeros((len(spikes), len(weights)), dtype=int)
    out[np.round(np.array(fired.t)).astype(int), np.array(fired.i)] = 1
    actual = np.array(synapses.w_act).reshape(weights.T.shape).T
    return {
        "weights": actual.astype(int).tolist(),
        "membranes": np.array(membrane.v).T.astype(int).tolist(),
        "spikes": out.tolist(),
    }


json.dump([run(case) for case in json.load(sys.stdin)], sys.stdout)
