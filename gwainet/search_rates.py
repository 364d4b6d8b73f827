"""Which learning rate suits each system: short trainings on the training split, judged on validation faces alone.

A rate is tried as the stage itself would train with it, for a share of its epochs, and judged by the PSNR on validation
faces of the weights that the stage would keep. Nothing here looks at a face of the test split. The table is for people:
the rates that a training uses stand in params.yaml, where whoever reads the table puts them.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

import gwainet
from gwainet.baselines.budget import untrained
from gwainet.baselines.model import SYSTEMS as BASELINES
from gwainet.dataset import open_checked
from gwainet.errors import DivergedError, ParamsError, TrainingError
from gwainet.files import code_digest, file_digest, staged_directory, write_json
from gwainet.params import BaselineRates, Params
from gwainet.progress import console, say
from gwainet.recorder import NullRecorder
from gwainet.stages import STAGES
from gwainet.training import session

OURS = "guided"  # the variant of train_psnr whose rate is searched beside the others'
SYSTEMS = (*STAGES["train_baselines"].variants, OURS)
FORMAT = 2
_NOT_OF_THE_BUDGET = ("learning_rate", "learning_rates", "more_seeds")  # params that are no part of a trial's budget
# editing anything else leaves finished trials as they are
CODE = (*session.CODE, "baselines", "macs.py", "stages/train_baselines.py", "stages/train_psnr.py")


@dataclass(frozen=True)
class Trial:
    """One rate of one system.

    Attributes:
        system: a variant of train_baselines, or `guided`.
        learning_rate: that was tried.
        psnr: on validation faces, of the weights that are kept, dB; None: the training went wrong.
        steps: that it was trained.
        digest: of all that it depends on: params, data, weights that it starts from, code.
        failure: what went wrong.
    """

    system: str
    learning_rate: float
    psnr: float | None
    steps: int
    digest: str = ""
    failure: str | None = None


@dataclass(frozen=True)
class Found:
    """What a search comes to for a system.

    Attributes:
        param: where its rate stands.
        learning_rate: of the highest PSNR; None: every training went wrong.
        at_the_edge: it is the lowest or the highest that was tried, so that a better one may lie beyond.
    """

    param: str
    learning_rate: float | None
    at_the_edge: bool


def search(params: Params, root: Path, store: Path, systems: Sequence[str] = SYSTEMS) -> dict[str, Found]:
    """Try every rate of `search_rates` for some systems, and write `reports/<profile>/search_rates/` (docs/formats.md).

    A trial that an earlier search has finished is not made again; a killed one goes on from its checkpoint.

    Args:
        params: of the profile.
        root: where `data/`, `models/` and `reports/` lie.
        store: below which `.gwainet/` lies.
        systems: of `SYSTEMS`; an earlier search's lines of others are kept if all that they depend on is the same.

    Raises:
        ParamsError: there is no such system.
        ContractError: the faces were not checked.
        CheckpointError: weights that a system needs are missing.
        DataError: the faces lack landmarks that `train_baselines.landmarks: on` asks for.
    """
    for system in systems:
        if system not in SYSTEMS:
            raise ParamsError(f"there is no system `{system}`; there are {', '.join(SYSTEMS)}")
    systems = list(_trained(params, root, systems))
    work = store / ".gwainet"
    trials: list[Trial] = []
    for system in systems:
        trials += [_try(params, root, work, system, rate) for rate in params.search_rates.rates]
    out = root / "reports" / params.profile / "search_rates"
    facts = _facts(params, root)
    trials = [*_before(params, root, work, out, facts, systems), *trials]
    trials.sort(key=lambda trial: (SYSTEMS.index(trial.system), trial.learning_rate))
    names = dict.fromkeys(trial.system for trial in trials)
    found = {name: choose(name, [trial for trial in trials if trial.system == name]) for name in names}
    with staged_directory(out) as directory:
        pd.DataFrame([asdict(trial) for trial in trials]).to_csv(directory / "rates.csv", index=False)
        chosen = {name: asdict(one) for name, one in found.items()}
        write_json(directory / "rates.json", {"format": FORMAT, "facts": facts, "chosen": chosen})
    console.print(_table(trials, found))
    say(f"Rates: {out / 'rates.csv'}; to train with them, set them in params.yaml:")
    for one in found.values():
        if one.learning_rate is not None:
            edge = "  # at the edge: try beyond it" if one.at_the_edge else ""
            say(f"  {one.param}: {one.learning_rate:g}{edge}")
    return found


def _trained(params: Params, root: Path, systems: Sequence[str]) -> Iterator[str]:
    """Those that the data can train; says which cannot be."""
    paths = STAGES["train_baselines"].paths(params.profile, root=root)
    landmarks = open_checked(paths["faces"], paths["passed"]).has_landmarks
    for system in systems:
        baseline = next((name for name in BASELINES if name == system), None)
        reason = None if baseline is None else untrained(params, baseline, landmarks)
        if reason is None:
            yield system
        else:
            say(f"search-rates: no rate is searched for {system}: {reason}")


def choose(system: str, trials: Sequence[Trial]) -> Found:
    """The rate of the highest PSNR; of equal ones the lowest."""
    param = "train_psnr.learning_rate" if system == OURS else f"train_baselines.learning_rates.{system}"
    sound = [trial for trial in trials if trial.psnr is not None]
    if not sound:
        return Found(param, None, at_the_edge=False)
    best = max(sound, key=lambda trial: (trial.psnr, -trial.learning_rate))
    rates = sorted(trial.learning_rate for trial in trials)
    return Found(param, best.learning_rate, best.learning_rate in (rates[0], rates[-1]))


def _facts(params: Params, root: Path) -> dict[str, Any]:
    """What lines of a table must have in common; not the rates, of which a later search may try more."""
    stage = STAGES["train_baselines"]
    paths = stage.paths(params.profile, root=root)
    values = params.flat(("networks", "train_baselines", "train_psnr"))
    return {
        "faces": open_checked(paths["faces"], paths["passed"]).digest,
        "share": params.search_rates.share,
        "params": {name: value for name, value in values.items() if name.split(".")[1] not in _NOT_OF_THE_BUDGET},
    }


def _before(
    params: Params, root: Path, work: Path, out: Path, facts: dict[str, Any], systems: Sequence[str]
) -> Iterator[Trial]:
    """Lines of an earlier table that still hold, of other systems."""
    try:
        earlier = json.loads((out / "rates.json").read_text(encoding="utf-8"))
        table = pd.read_csv(out / "rates.csv", dtype={"digest": str})
    except (FileNotFoundError, ValueError):
        return
    if earlier.get("format") != FORMAT or earlier.get("facts") != json.loads(json.dumps(facts)):
        say(f"{out}: the lines of before are of other data or another budget, and are left out")
        return
    left_out = set()
    for row in table[~table["system"].isin(systems)].to_dict("records"):
        system, rate = str(row["system"]), float(row["learning_rate"])
        if row["digest"] != _plan(params, root, work, system, rate).digest:
            left_out.add(system)
            continue
        failure = row["failure"] if isinstance(row["failure"], str) else None
        psnr = None if math.isnan(row["psnr"]) else float(row["psnr"])
        yield Trial(system, rate, psnr, int(row["steps"]), str(row["digest"]), failure)
    if left_out:
        say(f"{out}: lines of before are of other code or other weights, and are left out: {', '.join(left_out)}")


@dataclass(frozen=True)
class _Planned:
    """A trial before it is made.

    Attributes:
        stage: that trains it.
        system: of `SYSTEMS`.
        rate: of learning.
        params: that it is trained with.
        arguments: of the stage, its inputs.
        digest: of all that it depends on.
        out: where it lies.
    """

    stage: str
    system: str
    rate: float
    params: Params
    arguments: dict[str, Path]
    digest: str
    out: Path


def _plan(params: Params, root: Path, work: Path, system: str, rate: float) -> _Planned:
    """What a trial is; the digest of one that starts from another trial holds once that is made."""
    stage = STAGES["train_psnr" if system == OURS else "train_baselines"]
    changed = _with_rate(params, system, rate)
    arguments = {name: path for name, path in stage.paths(params.profile, system, root).items() if name != "out"}
    if system == "srgan":
        arguments["start"] = _plan_start(params, root, work).out
    facts = {
        "system": system,
        "params": changed.flat(stage.sections),
        "inputs": {name: file_digest(file) for name, file in _files(arguments).items()},
        "code": code_digest(Path(gwainet.__file__).parent, CODE),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    out = work / "search_rates" / f"{stage.name}@{system}-{rate:g}-{digest}"
    return _Planned(stage.name, system, rate, changed, arguments, digest, out)


def _plan_start(params: Params, root: Path, work: Path) -> _Planned:
    """What SRGAN's trials start from: the search's own SRResNet, with the rate that params.yaml names."""
    return _plan(params, root, work, "srresnet", params.train_baselines.learning_rates.srresnet)


def _try(params: Params, root: Path, work: Path, system: str, rate: float) -> Trial:
    """Train with one rate, unless that has been done."""
    if system == "srgan":
        first = _made(_plan_start(params, root, work), work)
        if first.psnr is None:
            failure = f"SRResNet, which it starts from, failed: {first.failure}"
            digest = _plan(params, root, work, system, rate).digest
            return Trial(system, rate, None, 0, digest, failure)
    return _made(_plan(params, root, work, system, rate), work)


def _made(planned: _Planned, work: Path) -> Trial:
    """A trial, from the directory that bears its digest if an earlier search has finished it.

    Numbers that went wrong are remembered, too; what else stops a training is tried again by the next search.
    """
    stage, system, rate, out = planned.stage, planned.system, planned.rate, planned.out
    wrong = out.with_name(f"{out.name}.failed")
    if wrong.exists():
        return Trial(system, rate, None, 0, planned.digest, wrong.read_text(encoding="utf-8"))
    if not (out / "metrics.json").is_file():
        say(f"search-rates: {system} at {rate:g}")
        arguments: dict[str, Any] = {**planned.arguments, "out": out, "work": work, "recorder": NullRecorder()}
        try:
            STAGES[stage].function()(planned.params, variant=system, **arguments)
        except TrainingError as error:
            say(f"search-rates: {system} at {rate:g} went wrong: {error}")
            if isinstance(error, DivergedError):  # a rate that is too high: that is what a search is to find out
                wrong.parent.mkdir(parents=True, exist_ok=True)
                wrong.write_text(str(error), encoding="utf-8")
            return Trial(system, rate, None, 0, planned.digest, str(error))
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return Trial(system, rate, round(float(metrics["psnr"]), 6), int(metrics["steps"]), planned.digest)


def _files(arguments: dict[str, Path]) -> dict[str, Path]:
    """The files that stand for a trial's inputs."""
    files = {"faces": arguments["faces"] / "faces.json"}
    for name in ("start", "inet", "wnet"):
        path = arguments.get(name, Path("/nowhere")) / "weights.safetensors"
        if path.is_file():
            files[name] = path
    return files


def _with_rate(params: Params, system: str, rate: float) -> Params:
    """The params of a trial: the rate, a share of the epochs, one seed."""
    share = params.search_rates.share
    if system == OURS:
        ours = params.train_psnr
        update = {"learning_rate": rate, "epochs": share * ours.epochs, "more_seeds": ()}
        return params.model_copy(update={"train_psnr": ours.model_copy(update=update)})
    own = params.train_baselines
    rates = BaselineRates().model_copy(update={system: rate})  # those of others change nothing in this trial
    update = {
        "learning_rates": rates,
        "epochs": share * own.epochs,
        "critic_epochs": share * own.critic_epochs,
        "more_seeds": (),
    }
    return params.model_copy(update={"train_baselines": own.model_copy(update=update)})


def _table(trials: Sequence[Trial], found: dict[str, Found]) -> Table:
    """Systems by rates, PSNR on validation faces; the chosen one is bold."""
    rates = sorted({trial.learning_rate for trial in trials})
    title = "PSNR on validation faces, dB, by learning rate"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("system", no_wrap=True)
    for rate in rates:
        table.add_column(f"{rate:g}", justify="right", no_wrap=True)
    values = {(trial.system, trial.learning_rate): trial for trial in trials}
    for name, one in found.items():
        cells = []
        for rate in rates:
            trial = values.get((name, rate))
            text = "" if trial is None else "failed" if trial.psnr is None else f"{trial.psnr:.2f}"
            cells.append(f"[bold]{text}[/]" if rate == one.learning_rate else text)
        table.add_row(name, *cells)
    return table
