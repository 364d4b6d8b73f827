"""The registry's side of a promotion: who is champion, their figures and weights, and the writes that change it.

The order of the writes is what makes a killed promotion harmless. The version is tagged and `previous` moved before
`champion`, so that at every moment `champion` is a whole, tagged version; and a version's tag `gwainet.predecessor`
says whom it follows, so that the way back is known even where `previous` was moved and `champion` was not.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from gwainet.errors import TrackingError
from gwainet.files import file_digest
from gwainet.tracking.claim import Claim, claimed
from gwainet.tracking.execution import is_default_store, shown, tracking_uri, user
from gwainet.tracking.outbox import brief
from gwainet.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, TABLE, default_store
from gwainet.tracking.runs import locked

PREDECESSOR = "gwainet.predecessor"
VERDICT = "gwainet.verdict"


@dataclass(frozen=True)
class Version:
    """A version of the registered model.

    Attributes:
        name: of the registered model.
        number: of the version.
        run_id: of the run that registered it; its files are under `benchmark/`.
        source: where MLflow keeps the model.
        tags: what is known of it.
    """

    name: str
    number: str
    run_id: str
    source: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """`models:/<name>/<version>`."""
        return f"models:/{self.name}/{self.number}"

    def tag(self, name: str) -> str:
        """`gwainet.<name>`; empty where it has none."""
        return self.tags.get(f"gwainet.{name}", "")


@dataclass(frozen=True)
class Change:
    """What a promotion or a rollback did: the champion now, and the one before (None: there was none)."""

    champion: Version
    previous: Version | None


class Registry:
    """A registered model's versions and who is what.

    Args:
        root: where the default store lies.
        name: of the registered model.
        claim_seconds: after which the claim of a killed process ends.

    Raises:
        TrackingError: there is no such model, or the server does not answer.
    """

    def __init__(self, root: Path, name: str, claim_seconds: float) -> None:
        self.name, self._claim_seconds = name, claim_seconds
        self._uri = tracking_uri(root)
        nothing = f"there is no registered model {name} at {shown(self._uri)}: run `python -m gwainet register_model`"
        if is_default_store() and not (root / "mlflow.db").exists():
            raise TrackingError(nothing)
        with self._answers("read"):
            with locked(self._uri):
                self.client = MlflowClient(self._uri)
            try:
                self.client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    raise TrackingError(nothing) from error
                raise

    def find(self, model: str) -> Version:
        """The version of an alias (`@challenger`), a number (`3`) or a URI (`models:/gwainet/3`, `models:/gwainet@x`).

        Raises:
            TrackingError: there is none, or it is another model's.
        """
        which = model.removeprefix(f"models:/{self.name}").lstrip("/") if model.startswith("models:/") else model
        with self._answers("read"):
            if which.startswith("@"):
                found = self._of_alias(which[1:])
                if found is None:
                    champion = self._of_alias(CHAMPION)
                    whose = "there is no champion" if champion is None else f"the champion is {champion.uri}"
                    raise TrackingError(
                        f"{self.name} has no version with the alias {which[1:]} ({whose}): run register_model, or name "
                        f"a version, such as models:/{self.name}/1"
                    )
                return found
            if not which.isdigit():
                raise TrackingError(
                    f"{model} names no version of {self.name}: give @challenger, a number, or models:/{self.name}/1 "
                    "(register_model.name chooses the model)"
                )
            return self._version(which)

    def champion(self) -> Version | None:
        """The version with the alias `champion`."""
        with self._answers("read"):
            return self._of_alias(CHAMPION)

    def is_challenger(self, version: Version) -> bool:
        """Whether the version has the alias `challenger`."""
        with self._answers("read"):
            return self._aliases().get(CHALLENGER) == version.number

    def table(self, version: Version, folder: Path) -> Path | None:
        """The version's `benchmark.csv`, copied into `folder`; None where its run does not have one."""
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(MlflowException, OSError):  # a run that was deleted or whose files were: measured anew
            return Path(self.client.download_artifacts(version.run_id, f"benchmark/{TABLE}", str(folder)))
        return None

    def weights(self, version: Version, folder: Path) -> Path:
        """The version's weights, copied into `folder` and held against their digest.

        Raises:
            TrackingError: they are not there, or not those that were registered.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with self._answers(f"give the weights of {version.uri}"), default_store(self._uri):
            path = Path(
                mlflow.artifacts.download_artifacts(
                    f"{version.uri}/artifacts/weights.safetensors", dst_path=str(folder), tracking_uri=self._uri
                )
            )
        if file_digest(path) != version.tag("weights_digest"):
            raise TrackingError(
                f"the weights of {version.uri} are not those that were registered (tag gwainet.weights_digest): the "
                "model was damaged or exchanged; register it again"
            )
        return path

    def keep(self, version: Version, file: Path, folder: str) -> None:
        """Log a file to the version's own run."""
        with self._answers(f"take {file.name}"):
            self.client.log_artifact(version.run_id, str(file), folder)

    def promote(self, challenger: Version, champion: Version | None, verdict: str, reason: str) -> Change:
        """Make the challenger the champion, and the champion `previous`.

        Args:
            challenger: on whom the verdict is.
            champion: whom it was compared with; None where there was none.
            verdict: as JSON.
            reason: why, in the user's words.

        Raises:
            TrackingError: the champion is another one by now, or the server refuses; it says what was written.
        """
        with self._acting(f"promotion of {challenger.uri}") as claim:
            self._second_look(champion)
            self._version(challenger.number)  # deleted meanwhile?
            before = {} if champion is None else {PREDECESSOR: champion.number}
            self._sign(claim, challenger, "promoted", reason, {VERDICT: verdict, **before})
            if champion is not None:
                self._set(claim, PREVIOUS, champion)
            self._set(claim, CHAMPION, challenger)
            self._no_challenger(claim, challenger)
            return Change(self._version(challenger.number), champion)

    def finish(self, champion: Version) -> None:
        """Do the rest of a promotion that was cut off: the champion is no challenger any more."""
        with self._acting(f"the rest of the promotion of {champion.uri}") as claim:
            self._second_look(champion)
            self._no_challenger(claim, champion)

    def rollback(self, reason: str) -> Change:
        """Make `previous` the champion again, and the champion `previous`.

        Raises:
            TrackingError: there is no champion or nobody before it, or the server refuses.
        """
        with self._acting("rollback") as claim:
            champion = self._of_alias(CHAMPION)
            if champion is None:
                raise TrackingError(f"{self.name} has no champion: there is nothing to roll back")
            before = self._of_alias(PREVIOUS)
            if before is None or before.number == champion.number:
                # a promotion or rollback was cut off between its two aliases: the tag knows
                number = champion.tags.get(PREDECESSOR)
                before = None if number is None else self._version(number)
            if before is None:
                raise TrackingError(
                    f"{champion.uri} has no predecessor: nothing was changed. Name a version: `python -m gwainet "
                    "promote models:/...`"
                )
            self._sign(claim, champion, "rolled_back", reason, {})
            self._sign(claim, before, "restored", reason, {PREDECESSOR: champion.number})
            self._set(claim, PREVIOUS, champion)
            self._set(claim, CHAMPION, before)
            self._no_challenger(claim, before)
            return Change(self._version(before.number), champion)

    @contextmanager
    def _acting(self, act: str) -> Iterator[Claim]:
        about = {"act": act, **_who()}
        with self._answers("take all of it"), claimed(self.client, self.name, about, self._claim_seconds) as claim:
            yield claim

    def _second_look(self, expected: Version | None) -> None:
        """Nobody became champion since the decision."""
        found = self._of_alias(CHAMPION)
        if (found and found.number) != (expected and expected.number):
            was, now = ("none" if one is None else one.uri for one in (expected, found))
            raise TrackingError(
                f"the champion was {was} when this was decided and is {now} now: nothing was changed; run the command "
                "again"
            )

    def _sign(self, claim: Claim, version: Version, act: str, reason: str, more: Mapping[str, str]) -> None:
        """Say on a version's page who did what, where, when and why."""
        signed = {f"gwainet.{act}_{what}": value for what, value in {**_who(), "because": reason}.items()}
        for key, value in {**more, **signed}.items():
            claim.keep()
            self.client.set_model_version_tag(self.name, version.number, key, value)

    def _set(self, claim: Claim, alias: str, version: Version) -> None:
        claim.keep()
        self.client.set_registered_model_alias(self.name, alias, version.number)

    def _no_challenger(self, claim: Claim, champion: Version) -> None:
        """A newer challenger stays."""
        if self._aliases().get(CHALLENGER) == champion.number:
            claim.keep()
            self.client.delete_registered_model_alias(self.name, CHALLENGER)

    def _aliases(self) -> dict[str, str]:
        # search_model_versions leaves them out
        aliases = self.client.get_registered_model(self.name).aliases
        return {alias: str(number) for alias, number in aliases.items()}

    def _of_alias(self, alias: str) -> Version | None:
        number = self._aliases().get(alias)
        return None if number is None else self._version(number)

    def _version(self, number: str) -> Version:
        try:
            found: ModelVersion = self.client.get_model_version(self.name, number)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise TrackingError(f"{self.name} has no version {number} (any more): see `make ui`") from error
            raise
        return Version(self.name, str(found.version), found.run_id or "", found.source, dict(found.tags))

    @contextmanager
    def _answers(self, what: str) -> Iterator[None]:
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            raise TrackingError(
                f"MLflow at {shown(self._uri)} did not {what} ({self.name}): {brief(error)}. Run the same command "
                "again when it is back: it finishes what was begun"
            ) from error


def _who() -> dict[str, str]:
    """Who acts, where and when."""
    return {"by": user(), "host": socket.gethostname(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
