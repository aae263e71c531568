"""Optimisation with `workers=2` and with the map of a pool.

Needs: scipy
"""

import multiprocessing
import sys

from scipy.optimize import brute, differential_evolution, rosen

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    bounds = [(0, 2)] * 3
    options = {"updating": "deferred", "maxiter": 15, "rng": 1, "polish": False}
    print(differential_evolution(rosen, bounds, workers=2, **options).x.round(6).tolist())
    with multiprocessing.Pool(2) as pool:
        print(
            differential_evolution(rosen, bounds, workers=pool.map, **options).x.round(6).tolist()
        )
    print(brute(rosen, ((-1, 2), (-1, 2)), Ns=7, finish=None, workers=2).tolist())
