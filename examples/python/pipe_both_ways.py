"""A pipe used in both directions, several messages, and the end of file when the other side closes.

What to see: an answer to each question, then EOFError in the child and in the parent.
"""

from procession import Pipe, Process


def answer(ours, theirs, parting):
    theirs.close()  # a forked child has inherited the parent's end too
    while True:
        try:
            question = ours.recv()
        except EOFError:
            break
        ours.send(question.upper())
    parting.send("the child has seen the end of file")


def main():
    ours, theirs = Pipe()
    receiver, parting = Pipe(duplex=False)
    child = Process(target=answer, args=(theirs, ours, parting))
    child.start()
    theirs.close()
    parting.close()
    for question in ("who", "what", "where", "x" * 100_000):
        ours.send(question)
        reply = ours.recv()
        print(f"{question[:5]} -> {reply[:5]} ({len(reply)})")
    ours.close()
    print(receiver.recv())
    try:
        receiver.recv()
    except EOFError:
        print("the parent has seen the end of file")
    child.join()


if __name__ == "__main__":
    main()
