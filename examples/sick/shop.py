"""A program that hangs: two processes acquire two locks in two orders.

``procession dump`` names the deadlock; the page "My program hangs: what now?" shows it.
"""

from procession import Event, Lock, Process


def serve(till, stock, opened):
    with till:
        opened.wait()
        with stock:
            print("served")


def refill(till, stock, opened):
    with stock:
        opened.wait()
        with till:
            print("refilled")


if __name__ == "__main__":
    till = Lock()
    stock = Lock()
    opened = Event()
    clerks = [
        Process(target=serve, args=(till, stock, opened), name="server"),
        Process(target=refill, args=(till, stock, opened), name="refiller"),
    ]
    for clerk in clerks:
        clerk.start()
    while not till.locked() or not stock.locked():
        pass
    opened.set()
    for clerk in clerks:
        clerk.join()
