"""A grid search, a forest and cross-validation with n_jobs=2, by joblib's backends loky, multiprocessing and procession.

Needs: scikit-learn
"""

import multiprocessing
import sys

import joblib
import numpy
import sklearn
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.parallel import Parallel, delayed

import procession.joblib


def working_memory():
    return sklearn.get_config()["working_memory"]


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    procession.joblib.register()
    x, y = make_classification(400, random_state=0)
    for backend in ("loky", "multiprocessing", "procession"):
        options = {"start_method": sys.argv[1]} if backend == "procession" else {}
        with joblib.parallel_config(backend, **options):
            search = GridSearchCV(
                make_pipeline(StandardScaler(), LogisticRegression()),
                {"logisticregression__C": [0.01, 1, 100]},
                cv=3,
                n_jobs=2,
            ).fit(x, y)
            forest = RandomForestClassifier(9, random_state=0, n_jobs=2)
            print(
                backend,
                search.best_params_,
                search.cv_results_["mean_test_score"].round(6).tolist(),
            )
            print(cross_val_score(forest, x, y, n_jobs=2, cv=3).round(6).tolist())
            print(numpy.bincount(forest.fit(x, y).predict(x)).tolist())
            with sklearn.config_context(working_memory=123):
                print(Parallel(n_jobs=2)(delayed(working_memory)() for _ in range(3)))
