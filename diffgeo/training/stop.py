"""A signal that asks a training to stop (`machine.signals`), seen by all of its processes after the
same step."""

from __future__ import annotations

import time

from diffgeo.machine import signals
from diffgeo.machine.distributed import World

EVERY = 1.0  # seconds between two looks of several processes, which cost a wait for all of them


class Stop:
    """Asked after every step: whether the training is to stop. `number` is then the signal.

    One process looks each time, which costs nothing. Several look together about every second: how
    many steps that is, they agree on in the same breath.
    """

    def __init__(self, world: World):
        self.world = world
        self.number = 0
        self.steps = 0  # since the last look
        self.due = 1  # steps from one look to the next
        self.looked = time.monotonic()

    def __call__(self) -> bool:
        if self.world.size == 1:
            self.number = signals.asked()
            return self.number != 0
        self.steps += 1
        if self.steps == self.due:
            self.look()
        return self.number != 0

    def look(self) -> None:
        """See what has come to any process, and agree on the next look."""
        seconds = max(1e-6, time.monotonic() - self.looked)
        wanted = max(1, int(self.steps / seconds * EVERY))
        self.number, self.due = self.world.most(signals.asked(), wanted)
        self.steps = 0
        self.looked = time.monotonic()
