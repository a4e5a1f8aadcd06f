"""EpochTimer: measured durations of epochs."""

import time

import lightning.pytorch as pl
from helpers.tiny_fit import fit

from callbacks import EpochTimer


class Slow(pl.Callback):
    """Sleeps at the start of epoch 1, before the first batch; notes what was logged."""

    def __init__(self):
        self.logged = []

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            time.sleep(0.5)

    def on_train_epoch_end(self, trainer, pl_module):
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_an_epoch_counts_with_everything_in_it(tmp_path):
    slow = Slow()
    start = time.perf_counter(), time.process_time()
    fit(tmp_path, [EpochTimer(), slow], epochs=3)
    whole = time.perf_counter() - start[0], time.process_time() - start[1]
    seconds, cpu = ([row[f"time/epoch_{name}"] for row in slow.logged] for name in ("seconds", "cpu_seconds"))
    assert seconds[1] > 0.5
    assert seconds[1] - cpu[1] > 0.4, "sleep takes no processor time"
    assert 0 < sum(seconds) < whole[0]
    assert 0 < sum(cpu) < whole[1]
