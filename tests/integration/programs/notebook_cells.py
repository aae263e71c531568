"""A notebook in a Jupyter kernel: cells define what processes, pools and executors run.

Needs: nbclient, ipykernel, nbformat
"""

import sys

import nbclient
import nbformat

CELLS = [
    """
import multiprocessing
context = multiprocessing.get_context({method!r})
""",
    """
def double(number):
    return number * 2

def put(queue, text):
    print("printed in a child", flush=True)
    queue.put(text)
""",
    """
queue = context.Queue()
child = context.Process(target=put, args=(queue, "from a cell")) if {method!r} == "fork" else None
if child is not None:
    child.start()
    print(queue.get())
    child.join()
    print(child.exitcode)
""",
    """
if {method!r} == "fork":
    with context.Pool(2) as pool:
        print(pool.map(double, range(5)))
with context.Pool(2) as pool:
    print(pool.map(abs, range(-3, 0)))
""",
    """
lock, number = context.Lock(), context.Value("i", 3)
with lock:
    number.value += 1
print(number.value)
with context.Manager() as manager:
    names = manager.dict(a=1)
    print(dict(names))
""",
]

if __name__ == "__main__":
    cells = [nbformat.v4.new_code_cell(cell.strip().format(method=sys.argv[1])) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    for cell in notebook.cells:
        print("".join(sorted(output.get("text", str(output)) for output in cell.outputs)), end="")
