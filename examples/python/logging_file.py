"""All processes of a program log to one file (only in procession: log_to_file is its own).

What to see: 4 x 500 lines in the file, none lost or torn, those of each process in order.
"""

import collections
import logging
import os
import re
import tempfile

from procession import Process, get_logger, log_to_file

PROCESSES, LINES = 4, 500
LINE = re.compile(r"line (\d+) (x{40}) end$")


def work():
    for line in range(LINES):
        get_logger().info("line %d %s end", line, "x" * 40)


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "program.log")
        log_to_file(path, logging.INFO)
        processes = [Process(target=work, name=f"worker-{number}") for number in range(PROCESSES)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()

        seen, torn = collections.defaultdict(list), 0
        with open(path) as log:
            for text in log:
                name = re.search(r"worker-\d+", text)
                line = LINE.search(text)
                if name and line:
                    seen[name.group()].append(int(line.group(1)))
                elif "line " in text:
                    torn += 1
    for name in sorted(seen):
        order = "in order" if seen[name] == list(range(LINES)) else "NOT in order"
        print(f"{name}: {len(seen[name])} lines, {order}")
    print(f"torn lines: {torn}")


if __name__ == "__main__":
    main()
