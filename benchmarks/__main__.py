"""`python -m benchmarks training` (or `inference`, `preparation`, `pairs`, `metrics`): print the tables."""

import argparse
import os

from rich.console import Console

from benchmarks.cases import CASES
from benchmarks.peer import missing_basicsr
from benchmarks.timing import Form, interleave, machine, rates, table


def main() -> None:
    """Time each case of a group, or the cases that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    groups = sorted({case.group for case in CASES.values()})
    parser.add_argument("chosen", nargs="+", choices=[*groups, *CASES], help="a group, or cases")
    parser.add_argument("--threads", type=int, default=1, help="of one operation (default 1)")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each case, about (default 30)")
    options = parser.parse_args()
    console = Console(width=150)
    console.print(machine(options.threads))
    for name, case in CASES.items():
        if not {name, case.group} & set(options.chosen):
            continue
        missing = missing_basicsr()
        if "BasicSR's EDSR" in case.forms and missing:
            console.print(f"{case.title}: skipped, {missing}")
            continue
        forms = [Form(form, "benchmarks.form", [name, form, str(options.threads)]) for form in case.forms]
        turns = interleave(forms, options.seconds)
        if case.unit is None:
            console.print(table(case.title, turns, case.images))
        else:
            counts = {form: case.fewer.get(form, case.images) for form in turns}
            console.print(rates(case.title, turns, counts, case.unit))
    console.print(f"load average after {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
