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
def test_an_expression_that_robfig_cron_reads_passes(expression):
    assert check_cron(f"  {expression.replace(' ', '  ')} ") == expression


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("60 0 3 * * *", "`60` is no second"),
        ("0 -1 3 * * *", "`-1` is no minute"),
        ("0 0 24 * * *", "`24` is no hour"),
        ("0 0 3 0 * *", "`0` is no day of the month"),
        ("0 0 3 * 13 *", "`13` is no month"),
        ("0 0 3 * * 7", "`7` is no day of the week: 0 to 6 or sun to sat"),
        ("0 0 3 * * fri-mon", "`fri-mon`"),
        ("0 0 9-8 * * *", "`9-8`"),
        ("0 0 3 * * mon,", "`` is no day of the week"),
        ("0 */0 3 * * *", "`*/0`"),
        ("0 /5 3 * * *", "`/5`"),
        ("0 *5 3 * * *", "`*5`"),
        ("0 0 3 L * *", "`L`"),
    ],
)
def test_a_field_out_of_its_range_is_named(expression, wrong):
    with pytest.raises(ClusterError) as caught:
        check_cron(expression)
    assert wrong in str(caught.value)


def test_five_fields_are_told_to_put_the_second_first():
    with pytest.raises(ClusterError, match=r"has 5 fields and needs six.*put the second first, as in `0 0 3 \* \* \*`"):
        check_cron("0 3 * * *")
    with pytest.raises(ClusterError, match="has 1 fields"):
        check_cron("@daily")
