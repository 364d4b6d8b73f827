"""The process of one form: `python -m benchmarks.form CASE FORM THREADS`."""

import sys

if __name__ == "__main__":
    # here, so that processes that a form starts, which import this file again, do not import all of it
    from benchmarks.cases import CASES
    from benchmarks.timing import serve

    case, form, threads = sys.argv[1:]
    serve(lambda: CASES[case].forms[form](int(threads)))
