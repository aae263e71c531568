"""Altered pickles of shared objects, without a fuzzer.

The inputs are those of `fuzz/seeds/payload`, and similar ones.
"""

from __future__ import annotations

import os
import pathlib

FUZZ = pathlib.Path(__file__).resolve().parents[2] / "fuzz"

PROGRAM = """
import pathlib, random, sys
sys.path.insert(0, sys.argv[1])
import payload

seeds = sorted(pathlib.Path(sys.argv[1], "seeds", "payload").iterdir())
chance = random.Random(int(sys.argv[2]))
originals = [seed.read_bytes() for seed in seeds]

def like_those():
    data = bytearray(chance.choice(originals))
    for _ in range(chance.randrange(1, 9)):
        at = chance.randrange(len(data) + 1)
        data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
    return bytes(data)

for data in originals + [like_those() for _ in range(int(sys.argv[3]))]:
    print("playing", data.hex(), flush=True)
    payload.play(data)
print("played all")
"""


def test_what_was_kept_and_inputs_like_that(run_program):
    """In its own program, where a panic or a crash can only be the engine's."""
    rounds = os.environ.get("PROCESSION_ROUNDS", "300")
    done = run_program(PROGRAM, str(FUZZ), "1", rounds, timeout=300)
    assert done.stdout.endswith("played all\n"), done.stdout[-3000:] + done.stderr
    assert done.returncode == 0, done.stderr
