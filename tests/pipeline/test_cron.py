import pytest

from gwainet.errors import ClusterError
from pipeline.cron import check_cron


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 3 * * *",
        "0 */15 * * * *",
        "0 0 9 ? * MON-FRI",
        "59 59 23 31 12 6",
        "0 0 0 1,15 jan-mar ?",
        "0 5/10 8-18/2 * * 0",
    ],
)
def test_an_expression_that_kubeflow_reads_passes(expression):
    assert check_cron(f"  {expression.replace(' ', '  ')} ") == expression


@pytest.mark.parametrize(
    "expression",
    [
        "60 0 3 * * *",
        "0 -1 3 * * *",
        "0 0 24 * * *",
        "0 0 3 0 * *",
        "0 0 3 * 13 *",
        "0 0 3 * * 8",
        "0 0 3 * * mon,",
        "0 */0 3 * * *",
        "0 /5 3 * * *",
        "0 *5 3 * * *",
        "0 0 3 * foo *",
    ],
)
def test_what_no_cron_reads_is_refused_with_the_fields_that_are_wanted(expression):
    with pytest.raises(ClusterError) as caught:
        check_cron(expression)
    assert f"`{expression}` is no cron expression (second minute hour" in str(caught.value)


def test_five_fields_are_told_to_put_the_second_first():
    with pytest.raises(ClusterError, match=r"has 5 fields and needs six.*put the second first, as in `0 0 3 \* \* \*`"):
        check_cron("0 3 * * *")
    with pytest.raises(ClusterError, match="has 1 fields"):
        check_cron("@daily")
