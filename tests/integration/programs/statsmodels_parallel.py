"""`parallel_func` by joblib, and fits in a pool.

Needs: statsmodels, joblib
"""

import multiprocessing
import sys

import numpy
import statsmodels.api
from statsmodels.tools.parallel import parallel_func


def fit(seed):
    random = numpy.random.default_rng(seed)
    x = statsmodels.api.add_constant(random.normal(size=(50, 2)))
    model = statsmodels.api.OLS(x @ [1, 2, 3] + random.normal(size=50), x)
    return model.fit()


def parameters(seed):
    return fit(seed).params.round(6).tolist()


if __name__ == "__main__":
    parallel, function, _ = parallel_func(parameters, n_jobs=2, verbose=0)
    print(parallel(function(seed) for seed in range(4)))
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print([result.rsquared.round(6) for result in pool.map(fit, range(4))])
