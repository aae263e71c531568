"""An ensemble sampler with a pool: the same chain as without one.

Needs: emcee, numpy
"""

import multiprocessing
import sys

import emcee
import numpy


def log_density(theta):
    return -0.5 * numpy.sum(theta**2)


if __name__ == "__main__":
    start = numpy.random.default_rng(0).normal(size=(8, 2))
    chains = []
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        for given in (pool, None):
            sampler = emcee.EnsembleSampler(8, 2, log_density, pool=given)
            numpy.random.seed(1)
            sampler.random_state = numpy.random.mtrand.RandomState(1).get_state()
            sampler.run_mcmc(start, 20)
            chains.append(sampler.get_chain())
    print(numpy.array_equal(*chains), chains[0].shape)
