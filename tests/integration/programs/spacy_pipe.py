"""`nlp.pipe` with `n_process=2`, as tuples and with an error in a component.

Needs: spacy
"""

import multiprocessing
import sys

import spacy
from spacy.language import Language


@Language.component("count")
def count(doc):
    if doc.text == "bad":
        raise ValueError("bad text")
    doc.user_data["words"] = len(doc)
    return doc


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    nlp = spacy.blank("en")
    nlp.add_pipe("count")
    texts = [f"This is text {number} of {'many ' * number}." for number in range(20)]
    docs = list(nlp.pipe(texts, n_process=2, batch_size=4))
    print([doc.user_data["words"] for doc in docs], docs[3].text)
    pairs = nlp.pipe(
        [(text, index) for index, text in enumerate(texts)], as_tuples=True, n_process=2
    )
    print([index for _, index in pairs])
    try:
        list(nlp.pipe(["good", "bad"], n_process=2))
    except ValueError as error:
        print("raised", "bad text" in str(error))
