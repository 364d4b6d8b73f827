"""A challenger becomes the champion, or is refused with reasons; and the way back (docs/promotion.md).

Between the registry (`tracking.gate`), which has figures and weights, and the decision (`decision`), which knows
neither: this module brings both models' figures together, measured anew where they do not compare.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.table import Table
from rich.text import Text

from gwainet.dataset import Faces, open_checked
from gwainet.errors import ContractError, DataError
from gwainet.evaluation.measure import measure, metric_code_digest
from gwainet.evaluation.systems import SUFFIXES, System
from gwainet.files import write_json
from gwainet.nets.model import Generator, load_generator, read_weights
from gwainet.params import Params
from gwainet.progress import console, say
from gwainet.promotion.decision import SPLIT, Check, Contender, Verdict, decide, per_image, same_faces
from gwainet.promotion.latency import seconds_per_image
from gwainet.stages import STAGES
from gwainet.stages.benchmark import choose_faces, face_network_of
from gwainet.tracking.gate import Registry, Version
from gwainet.training.device import choose_device
from gwainet.workers import cores

SAME_PEOPLE = "of their own benchmarks: the same faces, measured by the same code"


@dataclass(frozen=True)
class Outcome:
    """What `promote` came to.

    Attributes:
        verdict: None where the version is the champion already.
        promoted: whether anything was changed.
    """

    verdict: Verdict | None
    promoted: bool

    @property
    def refused(self) -> bool:
        """Whether the gate is closed for this version."""
        return self.verdict is not None and not self.verdict.passed


def promote(params: Params, root: Path, model: str, *, yes: bool, reason: str) -> Outcome:
    """Hold a version against the champion, and with `yes` let it take its place if it may.

    Args:
        params: of the profile: `register_model.name`, `promotion`, and how to measure.
        root: where the default store and `data/` lie.
        model: `@challenger`, a number, or a URI of MLflow's.
        yes: whether to change anything; else the verdict is only shown.
        reason: why, to be kept with the version.

    Raises:
        TrackingError: there is no such version, the champion changed meanwhile, or the server refuses.
        DataError: the two must be measured anew, and the faces are not at hand.
        ContractError: they are, and were not checked.
    """
    registry = Registry(root, params.register_model.name, params.promotion.claim_seconds)
    challenger, champion = registry.find(model), registry.champion()
    if champion is not None and champion.number == challenger.number:
        return _already(registry, champion, yes)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        verdict = _judge(params, root, registry, challenger, champion, folder)
        show(verdict)
        if yes and verdict.passed:
            # before the claim: an artifact store may be slow
            for file in sorted(folder.glob("*.*")):
                registry.keep(challenger, file, f"promotion/over-{'none' if champion is None else champion.number}")
            registry.promote(challenger, champion, json.dumps(verdict.model_dump(mode="json")), reason)
    if not verdict.passed:
        say(f"Refused: {challenger.uri} does not become champion")
    elif yes:
        before = "" if champion is None else f"; {champion.uri} is `previous`: `python -m gwainet rollback` undoes it"
        say(f"{challenger.uri} is the champion{before}")
    else:
        say(f"{challenger.uri} may become champion: nothing was changed; add --yes to promote it")
    return Outcome(verdict, promoted=yes and verdict.passed)


def rollback(params: Params, root: Path, *, reason: str) -> dict[str, str | None]:
    """Make `previous` the champion again.

    Returns:
        `champion` and `previous`, as URIs.

    Raises:
        TrackingError: there is nobody to go back to, or the server refuses.
    """
    change = Registry(root, params.register_model.name, params.promotion.claim_seconds).rollback(reason)
    left = None if change.previous is None else change.previous.uri
    say(f"{change.champion.uri} is the champion again; {left} is `previous`")
    return {"champion": change.champion.uri, "previous": left}


def _already(registry: Registry, champion: Version, yes: bool) -> Outcome:
    if not registry.is_challenger(champion):
        say(f"{champion.uri} is the champion: nothing to do")
        return Outcome(None, promoted=False)
    if yes:
        registry.finish(champion)
        say(f"{champion.uri} is the champion: finished its promotion, which had been cut off")
    else:
        say(f"{champion.uri} is the champion, and its promotion was cut off: add --yes to finish it")
    return Outcome(None, promoted=yes)


def _judge(
    params: Params, root: Path, registry: Registry, challenger: Version, champion: Version | None, folder: Path
) -> Verdict:
    """The verdict; `folder` gets `verdict.json`, and `benchmark.csv` where they were measured anew."""
    rivals = {version.uri: version for version in (challenger, champion) if version is not None}
    weights = {uri: registry.weights(version, folder / version.number) for uri, version in rivals.items()}
    device = choose_device(params.runtime)
    generators = {uri: load_generator(path, device) for uri, path in weights.items()}
    size = read_weights(weights[challenger.uri], "generator")[1]
    seconds = seconds_per_image(generators, size.height, size.width, params.promotion.latency_rounds)
    figures, why = _own_figures(registry, rivals, folder)
    data, code = challenger.tag("data_digest"), challenger.tag("metric_code_digest")
    if why:
        say(f"Both are measured anew: {why}" if champion else f"It is measured anew: {why}")
        faces = _faces(params, root, why)
        table = _measure(params, faces, generators, device)
        table.to_csv(folder / "benchmark.csv", index=False)
        figures = {uri: per_image(table, uri) for uri in rivals}
        data, code = faces.digest, metric_code_digest()
    titles = [challenger.uri] if champion is None else [challenger.uri, champion.uri]
    first, *rest = (Contender(uri, generators[uri].guided, figures[uri], seconds[uri]) for uri in titles)
    verdict = decide(first, rest[0] if rest else None, params.promotion).model_copy(
        update={
            "data_digest": data,
            "metric_code_digest": code,
            "measured": f"anew on {device.type}: {why}" if why else SAME_PEOPLE,
        }
    )
    write_json(folder / "verdict.json", verdict.model_dump(mode="json"))
    return verdict


def _own_figures(registry: Registry, rivals: dict[str, Version], folder: Path) -> tuple[dict[str, pd.DataFrame], str]:
    """Each version's figures from its own benchmark; and why they do not do, if they do not."""
    for digest, what in (("data_digest", "data"), ("metric_code_digest", "code that measures")):
        values = {uri: version.tag(digest) for uri, version in rivals.items()}
        for uri, value in values.items():
            if not value:
                return {}, f"{uri} does not say of which {what} its figures are (tag gwainet.{digest})"
        if len(set(values.values())) > 1:
            told = ", ".join(f"{uri}: {value[:12]}" for uri, value in values.items())
            return {}, f"their figures are of different {what} ({told})"
    figures: dict[str, pd.DataFrame] = {}
    for uri, version in rivals.items():
        path = registry.table(version, folder / version.number)
        if path is None:
            return {}, f"the run of {uri} has no benchmark/benchmark.csv"
        table = pd.read_csv(path, dtype={"identity": str, "source_file": str, "split": str, "system": str})
        figures[uri] = per_image(table, version.tag("variant"))
        if figures[uri].empty:
            return {}, f"the benchmark of {uri} has no {SPLIT} faces"
    first, *rest = figures.values()
    if not all(same_faces(first, other) for other in rest):
        return {}, "their benchmarks are of different faces (benchmark.max_faces or seed)"
    return figures, ""


def _faces(params: Params, root: Path, why: str) -> Faces:
    """The prepared faces of the profile, which the contract holds for.

    Raises:
        DataError: they are not at hand.
        ContractError: they are, and were not checked.
    """
    paths = STAGES["register_model"].paths(params.profile, root=root)
    try:
        return open_checked(paths["faces"], paths["passed"])
    except (DataError, ContractError) as error:
        raise type(error)(
            f"{why}: figures of different measurements are not compared, and the models cannot be measured anew here: "
            f"{error}. Bring the faces with `dvc pull` or `dvc repro check_faces`, or run this where they are "
            "(--root, --profile)"
        ) from error


def _measure(params: Params, faces: Faces, generators: dict[str, Generator], device: torch.device) -> pd.DataFrame:
    """The rows of `benchmark.csv` of bicubic and of these models, with the right guide and another person's."""
    settings = params.benchmark
    systems = [System("bicubic", "Bicubic", None, "none")]
    for uri, generator in generators.items():
        systems.append(System(uri, uri, uri, "own" if generator.guided else "none"))
        if generator.guided:
            systems.append(System(f"{uri}{SUFFIXES['other']}", f"{uri}, wrong guide", uri, "other"))
    rows = choose_faces(faces.targets(SPLIT), faces.identity, settings.max_faces, settings.seed)
    if not len(rows):
        raise DataError(f"the {SPLIT} split has no faces to measure: see prepare_faces")
    nothing_shown = np.zeros(0, np.int64)
    with torch.inference_mode():
        return measure(
            faces,
            {SPLIT: rows},
            generators,
            nothing_shown,
            settings.batch_size,
            device,
            params.runtime.workers or cores(),
            face_network_of(settings) is not None,
            systems,
        ).table


def show(verdict: Verdict) -> None:
    """Print the requirements as a table on standard error, then what speaks against."""
    rival = verdict.champion or "no champion yet"
    table = Table(
        title=f"{verdict.challenger} against {rival}: {verdict.images} test faces of {verdict.identities} people",
        title_justify="left",
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )
    for title in ("", "challenger", "champion", "difference [95 %]", "asked for", ""):
        table.add_column(title, justify="left" if title in ("", "asked for") else "right", overflow="fold")
    for check in verdict.checks:
        table.add_row(*_cells(check))
    console.print(table)
    say(f"Figures {verdict.measured}.")
    for reason in verdict.reasons:
        say(f"- {reason}")


def _cells(check: Check) -> list[Text]:
    word, style = {True: ("ok", "green"), False: ("refused", "bold red"), None: ("not measured", "dim")}[check.passed]
    found = check.difference
    difference = "" if found is None else f"{found.mean:+.4g} [{found.low:+.4g}, {found.high:+.4g}]"
    figures = ("" if value is None else f"{value:.4g}" for value in (check.challenger, check.champion))
    texts = [Text(check.name), *(Text(value) for value in figures), Text(difference), Text(check.required)]
    return [*texts, Text(word, style=style)]
