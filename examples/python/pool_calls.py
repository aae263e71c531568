"""Pool(4): starmap, apply, and apply_async with a callback and an error callback.

What to see: the results in order, and the callbacks called in the parent.
"""

import os

import procession


def power(base, exponent=2):
    return base**exponent


def divide(dividend, divisor):
    return dividend / divisor


def main():
    called, parent = [], os.getpid()

    def collect(result):
        called.append((result, os.getpid() == parent))

    def failed(error):
        called.append((type(error).__name__, os.getpid() == parent))

    with procession.Pool(4) as pool:
        print("starmap:", pool.starmap(power, [(2, 3), (3, 2), (10, 4), (7,)]))
        print("apply:", pool.apply(power, (5,), {"exponent": 3}))
        results = [pool.apply_async(power, (base,), callback=collect) for base in range(5)]
        print("apply_async:", [result.get(timeout=30) for result in results])
        pool.apply_async(divide, (1, 0), callback=collect, error_callback=failed).wait(30)
        pool.close()
        pool.join()
    print("callbacks:", sorted(called, key=str))


if __name__ == "__main__":
    main()
