"""log_to_stderr() at level INFO reports when processes start and exit.

What to see: three lines for each child and, from MainProcess, one join of each child at exit.
"""

import logging

from procession import Event, Lock, Process, log_to_stderr


class WhenJoined(logging.Handler):
    """Lets the children end once the parent begins to join them: the logger is an ordinary one."""

    def __init__(self, leave):
        super().__init__()
        self.leave = leave

    def emit(self, record):
        if record.getMessage().startswith("calling join()"):
            self.leave.set()


def say(word, lock, leave):
    with lock:
        print("word:", word)
    leave.wait()


def main():
    logger = log_to_stderr()
    logger.setLevel(logging.INFO)
    lock, leave = Lock(), Event()
    for word in ("tango", "foxtrot", "waltz"):
        Process(target=say, args=(word, lock, leave)).start()
    logger.addHandler(WhenJoined(leave))


if __name__ == "__main__":
    main()
