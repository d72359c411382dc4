"""Gangs without processes: the ranks are threads, for what is not about torch."""

from __future__ import annotations

import threading

from forge_train.gang import Gang


class Threads:
    """Gangs of one process: the ranks are threads that meet at a barrier."""

    def __init__(self, world: int):
        self.barrier = threading.Barrier(world, timeout=20)
        self.slots: list = [None] * world
        self.world = world

    def gang(self, rank: int) -> Gang:
        gang = Gang(rank, self.world)
        gang.gather = lambda value: self.exchange(rank, value)
        gang.agree = lambda value: max(self.exchange(rank, value))
        return gang

    def exchange(self, rank: int, value):
        self.slots[rank] = value
        self.barrier.wait()
        values = list(self.slots)
        self.barrier.wait()
        return values

    def each(self, act) -> list:
        """act(gang) on every rank; what each returned or raised."""
        results: list = [None] * self.world

        def body(rank: int):
            try:
                results[rank] = act(self.gang(rank))
            except Exception as e:
                results[rank] = e

        threads = [threading.Thread(target=body, args=(r,)) for r in range(self.world)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        return results
