"""The process of one form: `python -m benchmarks.form CASE FORM THREADS`."""

import sys

from benchmarks.cases import CASES
from benchmarks.timing import serve

if __name__ == "__main__":
    case, form, threads = sys.argv[1:]
    serve(lambda: CASES[case].forms[form](int(threads)))
