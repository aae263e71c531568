"""`AsyncVectorEnv`: two environments in processes, their observations in shared memory.

Needs: gymnasium, numpy
"""

import sys

import gymnasium
import numpy


class Walk(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-100, 100, (2,), numpy.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=2)
        return self.place, {}

    def step(self, action):
        self.place = self.place + action
        return self.place, float(action), False, False, {}


if __name__ == "__main__":
    for shared in (True, False):
        vector = gymnasium.vector.AsyncVectorEnv(
            [Walk, Walk], shared_memory=shared, context=sys.argv[1]
        )
        print(vector.reset(seed=3)[0].round(6).tolist())
        for actions in ([0, 1], [1, 1]):
            places, rewards, *_ = vector.step(numpy.array(actions))
            print(places.round(6).tolist(), rewards.tolist())
        vector.close()
