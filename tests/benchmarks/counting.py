"""A form's process for the tests: counts its turns from a number on; dies where that is negative."""

import itertools
import sys

from benchmarks.timing import serve

if __name__ == "__main__":
    turns = itertools.count(float(sys.argv[1]))

    def work() -> float:
        print("what a work prints is no answer")
        turn = next(turns)
        if turn < 0:
            sys.exit("a form that dies")
        return turn

    serve(lambda: work)
