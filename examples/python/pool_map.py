"""Pool(3): map, and apply_async(...).get(timeout=...).

What to see: squares in the order of the numbers, 100 squared, and TimeoutError for the late one.
"""

import procession


def square(number):
    return number * number


released = None


def share(event):
    global released
    released = event


def late():
    released.wait()
    return "late, but here"


def main():
    event = procession.Event()
    with procession.Pool(3, share, (event,)) as pool:
        print("map:", pool.map(square, range(10)))
        print("apply_async:", pool.apply_async(square, (100,)).get(timeout=10))
        result = pool.apply_async(late)
        try:
            print("not late:", result.get(timeout=0.1))
        except procession.TimeoutError as error:
            print("late:", type(error).__name__)
        event.set()
        print("afterwards:", result.get(timeout=10))


if __name__ == "__main__":
    main()
