"""The calls of a child and of a pool's worker, traced.

Needs: viztracer
Run only: viztracer puts its start of children into `multiprocessing`
"""

import json
import pathlib
import subprocess
import sys

PROGRAM = """
import multiprocessing, sys

def traced_function(number):
    return number * 2

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    child = context.Process(target=traced_function, args=(1,))
    child.start()
    child.join()
    with context.Pool(1) as pool:
        pool.map(traced_function, range(3))
        pool.close()
        pool.join()
"""

if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    (here / "traced.py").write_text(PROGRAM)
    command = ["-m", "viztracer", "--quiet", "-o", "trace.json", "traced.py", sys.argv[1]]
    print(subprocess.run([sys.executable, *command], cwd=here).returncode)
    events = json.loads((here / "trace.json").read_text())["traceEvents"]
    calls = [event["pid"] for event in events if event["name"].startswith("traced_function")]
    print(len(calls), "calls in", len(set(calls)), "processes")
