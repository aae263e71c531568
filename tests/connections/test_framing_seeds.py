"""Unauthenticated bytes against framing and authentication, without a fuzzer.

The inputs are those of `fuzz/seeds/framing`, and similar ones.
"""

from __future__ import annotations

import importlib
import pathlib
import random
import sys

import pytest

from procession._connections import listening

FUZZ = pathlib.Path(__file__).resolve().parents[2] / "fuzz"
SEEDS = sorted((FUZZ / "seeds" / "framing").iterdir())

sys.path.insert(0, str(FUZZ))
framing = importlib.import_module("framing")
sys.path.remove(str(FUZZ))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_what_was_kept(seed):
    framing.play(seed.read_bytes())


def test_inputs_like_those():
    chance = random.Random(1)
    originals = [seed.read_bytes() for seed in SEEDS]
    for _ in range(2000):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(data) + 1)
            end = at + chance.randrange(3)
            data[at:end] = chance.randbytes(chance.randrange(4))
        try:
            framing.play(bytes(data))
        except BaseException:
            print("the input was", bytes(data))
            raise


@pytest.mark.parametrize("name", ["listener-proved", "listener-proved-by-old"])
def test_a_peer_with_the_key_is_let_in(name, monkeypatch):
    """Otherwise the others would be refused for the wrong reason."""
    outcomes = []
    receive = listening._Handshake.receive

    def noting(self):
        outcomes.append(receive(self))
        return outcomes[-1]

    monkeypatch.setattr(listening._Handshake, "receive", noting)
    framing.play((FUZZ / "seeds" / "framing" / name).read_bytes())
    assert outcomes[-1] and not any(outcomes[:-1])
