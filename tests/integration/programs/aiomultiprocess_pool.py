"""A pool of coroutines, a worker with a result.

Needs: aiomultiprocess
"""

import asyncio
import sys

import aiomultiprocess


async def double(number):
    await asyncio.sleep(0.001)
    return number * 2


async def main():
    async with aiomultiprocess.Pool(2) as pool:
        print(await pool.map(double, range(10)))
    print(await aiomultiprocess.Worker(target=double, args=(4,)))


if __name__ == "__main__":
    aiomultiprocess.set_start_method(sys.argv[1])
    asyncio.run(main())
