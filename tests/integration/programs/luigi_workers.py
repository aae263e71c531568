"""Two worker processes run tasks that depend on each other.

Needs: luigi
"""

import logging
import pathlib

import luigi

FOLDER = pathlib.Path(__file__).with_name("made")


class Part(luigi.Task):
    number = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget(str(FOLDER / f"{self.number}"))

    def run(self):
        with self.output().open("w") as out:
            out.write(str(self.number * self.number))


class Sum(luigi.Task):
    def requires(self):
        return [Part(number) for number in range(6)]

    def output(self):
        return luigi.LocalTarget(str(FOLDER / "sum"))

    def run(self):
        total = sum(int(part.open().read()) for part in self.input())
        with self.output().open("w") as out:
            out.write(str(total))


if __name__ == "__main__":
    logging.disable()
    for made in FOLDER.glob("*"):
        made.unlink()
    print(luigi.build([Sum()], workers=2, local_scheduler=True, no_lock=True))
    print((FOLDER / "sum").read_text())
