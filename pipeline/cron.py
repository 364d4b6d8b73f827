"""Cron expressions as Kubeflow reads them: six fields, seconds first."""

from croniter import CroniterError, croniter

from gwainet.errors import ClusterError


def check_cron(expression: str) -> str:
    """The expression, its fields one blank apart.

    It need not be right for Kubeflow's own reader, which knows no `L` and no range across a week's end: the server then
    says so.

    Raises:
        ClusterError: it has not six fields, or is no cron expression.
    """
    fields = expression.split()
    if len(fields) != 6:
        hint = f": put the second first, as in `0 {' '.join(fields)}`" if len(fields) == 5 else ""
        raise ClusterError(
            f"--cron `{expression}` has {len(fields)} fields and needs six (second minute hour day month weekday), "
            f"such as `0 0 3 * * *` for every night at three{hint}"
        )
    text = " ".join(fields)
    try:
        croniter.expand(text, second_at_beginning=True)
    except CroniterError as error:
        raise ClusterError(
            f"--cron `{text}` is no cron expression (second minute hour day month weekday): {error}"
        ) from None
    return text
