"""Places for commands that run at once."""

import asyncio

from broker_stub.agent.places import Places


class Worker:
    """Takes a place and holds it until it is told to leave."""

    def __init__(self, places: Places) -> None:
        self.is_inside = False
        self.may_leave = asyncio.Event()
        self.task = asyncio.create_task(self._work(places))

    async def _work(self, places: Places) -> None:
        async with places:
            self.is_inside = True
            await self.may_leave.wait()
            self.is_inside = False


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_so_many_are_inside_in_order_of_arrival() -> None:
    places = Places(2)
    workers = [Worker(places) for _ in range(4)]
    await settle()
    assert [one.is_inside for one in workers] == [True, True, False, False]
    workers[1].may_leave.set()
    await settle()
    assert [one.is_inside for one in workers] == [True, False, True, False]
    for one in workers:
        one.may_leave.set()
    await asyncio.gather(*(one.task for one in workers))


async def test_the_number_may_change_while_some_are_inside() -> None:
    places = Places(1)
    workers = [Worker(places) for _ in range(4)]
    await settle()
    places.most = 3
    await settle()
    assert sum(one.is_inside for one in workers) == 3
    places.most = 1
    workers[0].may_leave.set()
    workers[1].may_leave.set()
    await settle()
    assert [one.is_inside for one in workers] == [False, False, True, False]
    workers[2].may_leave.set()
    await settle()
    assert workers[3].is_inside
    workers[3].may_leave.set()
    await workers[3].task


async def test_who_gives_up_waiting_takes_no_place() -> None:
    places = Places(1)
    workers = [Worker(places) for _ in range(4)]
    await settle()
    workers[1].task.cancel()
    workers[0].may_leave.set()
    workers[2].task.cancel()  # the place may just have come to it
    await asyncio.gather(*(one.task for one in workers[:3]), return_exceptions=True)
    await settle()
    assert workers[3].is_inside
    workers[3].may_leave.set()
    await workers[3].task
