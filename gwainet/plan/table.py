"""A plan as tables for a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from gwainet.plan import Estimate, ProfilePlan, Training

# what an optimiser of a phase updates
_UPDATED = {"inet": "Inet", "wnet": "Wnet", "critic": "Cnet"}


def show(plan: ProfilePlan, console: Console | None = None) -> None:
    """Print a plan; tables fit 100 columns, and fold on a narrower terminal."""
    console = console or Console(highlight=False, emoji=False)
    sizes = plan.sizes
    validation = "" if sizes.validation is None else f", {sizes.validation:,} to validate on"
    console.print(
        f"Profile {plan.profile}, {plan.height} x {plan.width} pixels (height x width): {sizes.train:,} targets "
        f"to train on{validation} ({sizes.origin}).",
        markup=False,
    )
    if plan.device:
        console.print(f"Measured on: {plan.device}.", markup=False)
    for table in (_networks(plan), _schedule(plan), _settings(plan), _cost(plan)):
        console.print()
        console.print(table)
    for note in _notes(plan):
        console.print(note, markup=False)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)  # on a narrow terminal the other columns fold
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _networks(plan: ProfilePlan) -> Table:
    table = _table("Networks", "network", "parameters", "GMAC, forward of one image")
    for network in plan.networks:
        table.add_row(network.name, f"{network.parameters:,}", f"{network.macs / 1e9:,.3f}")
    return table


def _schedule(plan: ProfilePlan) -> Table:
    table = _table("Schedule", "training", "steps", "batch", "updates", "of", "targets seen", "epochs")
    for training in plan.trainings:
        most = "at most " if training.patience is not None and training.steps else ""
        parts = training.updates
        table.add_row(
            _name(training),
            f"{most}{training.steps:,}",
            f"{training.batch_size}",
            "\n".join(f"{count:,}" for count in parts.values()) or "none",
            "\n".join(_updated(training, part) for part in parts),
            "\n".join(f"{count:,}" for count in training.targets.values()),
            "\n".join(_digits(count, 3) for count in training.epochs.values()),
        )
    return table


def _settings(plan: ProfilePlan) -> Table:
    columns = ("learning rate", "Adam: beta1,\nbeta2, epsilon", "validations")
    table = _table("Optimisers and validation", "training", *columns)
    for training in plan.trainings:
        if training.steps:
            table.add_row(
                _name(training),
                _rates(training),
                f"{training.beta1:g}, {training.beta2:g}, {training.epsilon:g}",
                f"{training.validations:,} x {training.validation_faces:,} faces\n"
                f"every {training.validate_every:,} steps",
            )
    return table


def _cost(plan: ProfilePlan) -> Table:
    table = _table("Cost", "training", "a step", "all steps", "a step", "all, with validations")
    if plan.seconds is None:
        table = _table("Cost", "training", "a step", "all steps")
    for training in plan.trainings:
        row = [_name(training), _macs(training.step_macs), _macs(training.macs)]
        if training.timing is not None and training.seconds is not None:
            row += [_seconds(training.timing.step_seconds), _about(training.seconds)]
        table.add_row(*row)
    table.add_section()
    row = ["all, in turn", "", _macs(plan.macs)]
    table.add_row(*row, *([] if plan.seconds is None else ["", _about(plan.seconds)]))
    return table


def _notes(plan: ProfilePlan) -> list[str]:
    notes = [
        "MAC: a multiply-add of a convolution or a matrix product; FLOPs are twice as many. A step has its backward, "
        "and in the adversarial phase the critic's updates with the generator's forward and the penalty's double "
        "backward."
    ]
    for training in plan.trainings:
        if training.patience is not None and training.steps:
            notes.append(
                f"{training.name} ends early after {training.patience} validations without a new best PSNR "
                f"({training.patience * training.validate_every:,} steps)."
            )
    several = {training.name.partition("@")[0]: training.times for training in plan.trainings if training.times > 1}
    for stage, times in several.items():
        notes.append(
            f"Each of {stage} is trained {times} times (more_seeds): its line is of one training, the totals count all."
        )
    scaled = [t for t in plan.trainings if t.timing is not None and t.timing.batch_size < t.batch_size]
    if scaled:
        batches = ", ".join(f"{t.name} {t.timing.batch_size}" for t in scaled if t.timing is not None)
        notes.append(f"Timed with a smaller batch and scaled up, as more would not have fitted --seconds: {batches}.")
    if plan.seconds is not None:
        notes.append(
            "Time is estimated from a few steps on pictures of noise; in brackets from the quartiles of their times, "
            "where there was time for several. Checkpoints, tracking and reading from a cold disk are not in it. "
            "Whatever else ran on the machine made it longer."
        )
    return notes


def _name(training: Training) -> str:
    return training.name.replace("@", "\n@")


def _updated(training: Training, part: str) -> str:
    if training.name.startswith("train_baselines@"):
        return {"generator": "network", "warpnet": "WarpNet", "recnet": "RecNet"}.get(part, part)
    if part == "generator":
        return "SRnet" if training.name.endswith("@banet") else "Wnet, Gnet"
    return _UPDATED[part]


def _rates(training: Training) -> str:
    rates = [f"{rate.learning_rate:g} until {rate.until:,}" for rate in training.learning_rates]
    if len(rates) == 1:
        rates = [f"{training.learning_rates[0].learning_rate:g}"]
    if training.wnet_learning_rate_factor != 1 and not training.name.endswith("@banet"):
        rates.append(f"Wnet: {training.wnet_learning_rate_factor:g} of it")
    return "\n".join(rates)


def _macs(macs: int) -> str:
    sizes = (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6))
    unit, size = next((each for each in sizes if macs >= each[1]), ("", 1.0))
    return f"{_digits(macs / size, 3)} {unit}MAC" if macs else "none"


_UNITS = (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))


def _unit(seconds: float) -> tuple[str, float]:
    # a long unit from its double on: 90 min, not 1.5 h
    return next((unit for unit in _UNITS if seconds >= (2 if unit[1] > 1 else 1) * unit[1]), _UNITS[-1])


def _seconds(seconds: float) -> str:
    unit, size = _unit(seconds)
    return f"{_digits(seconds / size, 3)} {unit}"


def _about(estimate: Estimate) -> str:
    unit, size = _unit(estimate.about)
    about, low, high = (_digits(each / size, 2) for each in (estimate.about, estimate.low, estimate.high))
    spread = f"\n({low} to {high})" if estimate.low < estimate.high else ""  # one step alone has none
    return f"about {about} {unit}{spread}"


def _digits(value: float, count: int) -> str:
    """So many significant digits, without an exponent: 120, not 1.2e+02."""
    return f"{float(f'{value:.{count}g}'):,.15g}"
