"""One study in a file, optimised by two processes; and by joblib's threads.

Needs: optuna
"""

import multiprocessing
import pathlib
import sys

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

FILE = str(pathlib.Path(__file__).with_name("study.log"))


def objective(trial):
    return trial.suggest_float("x", -10, 10) ** 2


def optimise(count):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="one", storage=JournalStorage(JournalFileBackend(FILE)))
    study.optimize(objective, n_trials=count)
    return len(study.trials) >= count


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pathlib.Path(FILE).unlink(missing_ok=True)
    study = optuna.create_study(study_name="one", storage=JournalStorage(JournalFileBackend(FILE)))
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(pool.map(optimise, [6, 6], chunksize=1), len(study.trials))
    study.optimize(objective, n_trials=4, n_jobs=2)
    print(len(study.trials), sorted(trial.number for trial in study.trials) == list(range(16)))
