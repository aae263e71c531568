"""Two pools are not closed: one is terminated right after map, one is left for collection.

What to see: all 2 x 20 lines that the tasks printed (the standard library loses some or all).
"""

import procession


def speak(line):
    print("a task prints line", line)


def speak_once_more(line):
    print("another task prints line", line)


def left_to_the_collector():
    pool = procession.Pool(3)
    pool.map(speak_once_more, range(20))


def main():
    pool = procession.Pool(3)
    pool.map(speak, range(20))
    pool.terminate()
    pool.join()
    left_to_the_collector()


if __name__ == "__main__":
    main()
