"""docs/paper.md, the tests it names and the mutations that prove them tell of each other; `make mutants` runs these."""

import ast
import re
from pathlib import Path

import pytest

from tests.mutations import PROJECT, load, outcomes_of

MUTATIONS = load()
PAPER = (PROJECT / "docs" / "paper.md").read_text(encoding="utf-8")
each_mutation = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.rows[0]}: {m.wrong}"[:70])


def table(heading: str) -> list[list[str]]:
    """Cells of the rows of the tables below a heading of docs/paper.md, down to the next heading."""
    _, _, below = PAPER.partition(f"\n{heading}\n")
    lines = [line for line in below.split("\n#")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def named_tests(cell: str) -> set[str]:
    return set(re.findall(r"`(test_\w+)`", cell))


ROWS = {cells[0]: cells[2] for cells in table("# From the paper to the code") if not cells[1].startswith("none")}
HEADINGS = ("## Data", "## Networks", "## Losses and schedule", "## Metrics")
DECISIONS = {cells[0] for heading in HEADINGS for cells in table(heading)}
FILES = {path.relative_to(PROJECT / "tests").as_posix(): path for path in (PROJECT / "tests").rglob("test_*.py")}
TESTS = {
    file: {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}
    for file, path in FILES.items()
}


def row_of(text: str) -> str:
    """The row or the decision that a mutation means."""
    if text in DECISIONS:
        return text
    (row,) = (row for row in ROWS if row.startswith(text))
    return row


def test_the_tables_of_the_paper_are_read():
    assert len(ROWS) > 30
    assert {"D1", "N15", "L12", "M6"} <= DECISIONS
    assert named_tests(ROWS["Eq. 6, L_content"])


def test_every_row_and_every_decision_has_a_mutation():
    covered = {row_of(row) for mutation in MUTATIONS for row in mutation.rows}
    assert (ROWS.keys() | DECISIONS) - covered == set()


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_tests_that_exist_and_each_has_a_mutation_that_it_must_notice(row):
    proved = {t.partition("::")[2] for m in MUTATIONS if row in map(row_of, m.rows) for t in m.tests}
    assert proved == named_tests(ROWS[row]) != set()
    for name in re.findall(r"`([\w/]+\.py)`", ROWS[row]):
        assert name in FILES


def test_every_test_that_the_page_names_exists():
    assert named_tests(PAPER) <= set().union(*TESTS.values())


@each_mutation
def test_a_mutation_changes_one_place_and_leaves_code_that_can_run(mutation):
    content = (PROJECT / mutation.file).read_text(encoding="utf-8")
    assert content.count(mutation.old) == 1
    assert mutation.new != mutation.old
    if mutation.file.endswith(".py"):
        ast.parse(content.replace(mutation.old, mutation.new))
    assert mutation.tests
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert name in TESTS[file]


def test_outcomes_are_those_of_the_copys_tests(tmp_path: Path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "@pytest.mark.parametrize('n', [1, 2])\ndef test_half(n): assert n == 1\n"
        "def test_endless():\n    while True: pass\n"
    )
    found = outcomes_of(tmp_path, ["test_x.py::test_good", "test_x.py::test_half"], 60)
    assert found is not None
    assert found.failed == {"test_x.py::test_half"}
    assert found.passed == {"test_x.py::test_good", "test_x.py::test_half"}
    assert outcomes_of(tmp_path, ["test_x.py::test_endless"], 2) is None
