"""The lines that only a child or a pool's worker runs, with `concurrency = multiprocessing`.

Needs: coverage
Run only: coverage puts its start of children into `multiprocessing`
"""

import pathlib
import subprocess
import sys

import coverage

PROGRAM = """
import multiprocessing, sys

def chosen(number):
    if number > 3:
        return number * 2
    return number

def put(queue):
    number = 1
    queue.put(number)

def unused():
    return 1

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    child = context.Process(target=put, args=(queue,))
    child.start()
    queue.get()
    child.join()
    with context.Pool(2) as pool:
        pool.map(chosen, range(6))
        pool.close()
        pool.join()
"""

if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    covered = here / "covered.py"
    covered.write_text(PROGRAM)
    config = here / ".coveragerc"
    config.write_text("[run]\nconcurrency = multiprocessing\nparallel = true\n")
    command = [sys.executable, "-m", "coverage", "run", "covered.py", sys.argv[1]]
    print(subprocess.run(command, cwd=here).returncode)
    data = coverage.Coverage(config_file=str(config), data_file=str(here / ".coverage"))
    data.combine(data_paths=[str(here)])
    _, _, missing, _ = data.analysis(str(covered))
    print([PROGRAM.splitlines()[number - 1].strip() for number in missing])
