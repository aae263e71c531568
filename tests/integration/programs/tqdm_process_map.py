"""`process_map` with chunks and a context.

Needs: tqdm
Run only: tqdm's lock is one of the default context of `multiprocessing`
"""

import multiprocessing
import sys

from tqdm.contrib.concurrent import process_map


def double(number):
    return number * 2


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    print(process_map(double, range(5), max_workers=2, chunksize=2, disable=True))
    context = multiprocessing.get_context(sys.argv[1])
    print(process_map(double, range(5), max_workers=2, mp_context=context, disable=True))
