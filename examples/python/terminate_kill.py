"""terminate() and kill() of processes that loop for ever.

What to see: exit codes -15 and -9, the negative numbers of the signals.
"""

from procession import Event, Process


def loop_for_ever(running):
    running.set()
    while True:
        pass


def main():
    for how in ("terminate", "kill"):
        running = Event()
        process = Process(target=loop_for_ever, args=(running,))
        process.start()
        running.wait()
        print(f"{how}: alive {process.is_alive()}", end=", ")
        getattr(process, how)()
        process.join()
        print(f"then alive {process.is_alive()}, exit code {process.exitcode}")


if __name__ == "__main__":
    main()
