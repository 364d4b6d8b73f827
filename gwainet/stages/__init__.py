"""The pipeline's stages: what each reads, writes and depends on.

One file a stage, each with `run(params, *, <inputs>, out, recorder, ...)`: a function from paths and typed params to
paths. DVC (`dvc.yaml`) and Kubeflow (`components/`) are two thin callers of it; a test compares all three.

Arguments that mean the same in every training stage: `params` of the profile, of which the stage's sections shape the
result; `faces`, what `prepare_faces` wrote; `passed`, the `passed.json` of `check_faces`; `out`, the directory to write
(docs/formats.md); `work`, the directory of checkpoints; `recorder`, where numbers and pictures go.

This module imports nothing heavy, so that the command line's help is instant.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from gwainet.errors import DataError
from gwainet.params import BaselineSystem, Params
from gwainet.progress import say
from gwainet.recorder import NullRecorder

REHEARSED_FACES = 16  # validated in a dry run, at most: one batch


@dataclass(frozen=True)
class Stage:
    """A stage as its callers see it.

    Attributes:
        name: of the stage, its file, its `dvc.yaml` entry, its params section and its MLflow run.
        sections: the params sections that shape its result.
        inputs: argument name -> path; `{profile}` and `{variant}` are filled in, `{start}` by `starts`.
        out: the directory it writes, in one piece.
        variants: of one stage trained several times; empty for a stage that runs once.
        starts: variant -> path of what the variant starts from.
    """

    name: str
    sections: tuple[str, ...]
    inputs: dict[str, str]
    out: str
    variants: tuple[str, ...] = ()
    starts: dict[str, str] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether the stage keeps checkpoints in a directory `work`."""
        return self.name.startswith(("pretrain_", "train_"))

    @property
    def keeps_work(self) -> bool:
        """Whether the stage takes a directory `work`, where it keeps what it has done until it is killed."""
        return self.trains or self.name == "benchmark"

    @property
    def shared(self) -> bool:
        """Whether several processes may train one model of it: batch normalisation wants the batch in one place."""
        return self.trains and self.name != "train_baselines"

    def paths(self, profile: str, variant: str | None = None, root: Path = Path()) -> dict[str, Path]:
        """Argument name -> path of all inputs and of `out`, below `root`."""
        start = self.starts.get(variant or "", "").format(profile=profile)
        return {
            name: root / template.format(profile=profile, variant=variant, start=start)
            for name, template in {**self.inputs, "out": self.out}.items()
            if template != "{start}" or start
        }

    def parts(self, paths: Mapping[str, Path]) -> dict[str, Path]:
        """What the stage reads, each made by one run: of a directory of variants every variant (`psnr_guided`)."""
        parts: dict[str, Path] = {}
        for name, template in self.inputs.items():
            made = next((stage for stage in STAGES.values() if stage.out == f"{template}/{{variant}}"), None)
            if made is not None:
                parts |= {f"{name}_{variant}": paths[name] / variant for variant in made.variants}
            elif name in paths:
                parts[name] = paths[name]
        return parts

    def function(self) -> Callable[..., Any]:
        """The stage's `run`, imported only now."""
        run: Callable[..., Any] = import_module(f"gwainet.stages.{self.name}").run
        return run

    def execute(self, params: Params, variant: str | None, paths: Mapping[str, Path], store: Path) -> str:
        """Run the stage inside a tracked run, as DVC and Kubeflow both do; a training in as many processes as pay.

        Args:
            params: of the profile.
            variant: one of `variants`; None for a stage that has none.
            paths: argument name -> path, as `paths` gives them.
            store: directory of MLflow's default store (`mlflow.db`) and of checkpoints (`.gwainet/`).

        Returns:
            Where to look at the run.

        Raises:
            GwainetError: any error a user can meet.
        """
        if self.shared and "WORLD_SIZE" not in os.environ:  # which torchrun sets: then this is one of its processes
            from gwainet.training import launch  # heavy

            count = launch.processes(params.runtime, getattr(params, self.name).batch_size)
            if count > 1:
                request = launch.Request(
                    stage=self.name,
                    variant=variant,
                    params=params.model_dump(mode="json"),
                    paths={name: path.resolve() for name, path in paths.items()},
                    store=store.resolve(),
                )
                return launch.launch(request, count)
        return self.execute_here(params, variant, paths, store)

    def execute_here(self, params: Params, variant: str | None, paths: Mapping[str, Path], store: Path) -> str:
        """`execute` in this process: alone, or as one of several that train together, of which the first is tracked."""
        return self.tracked(self.function(), params, variant, paths, store)

    def tracked(
        self,
        function: Callable[..., Any],
        params: Params,
        variant: str | None,
        paths: Mapping[str, Path],
        store: Path,
    ) -> str:
        """`execute_here` with another function that writes what the stage writes (`prepare_faces_parts.merge`)."""
        arguments: dict[str, object] = dict(paths)
        if variant is not None:
            arguments["variant"] = variant
        if self.keeps_work:
            arguments["work"] = store / ".gwainet"
        if os.environ.get("RANK", "0") != "0":
            function(params, recorder=NullRecorder(), **arguments)
            return ""
        from gwainet import tracking  # heavy

        task = tracking.Task(self.name, variant, params, self.sections, store, self.parts(paths), paths["out"])
        with tracking.stage_run(task) as recorder, self._checkpoints_mirrored():
            function(params, recorder=recorder, **arguments)
        say(f"{task.name}: wrote {task.out}")
        return tracking.page(recorder, store)

    def rehearse(self, params: Params, variant: str | None, paths: Mapping[str, Path]) -> None:
        """Look whether the stage could run: of a training a few real steps are made, in one process, and thrown away.

        Nothing is written but below a temporary folder, and nothing is tracked.

        Raises:
            GwainetError: what would stop the stage.
        """
        for name, path in paths.items():
            if name == "out":
                replaced = ", which exists and would be replaced" if path.exists() else ""
                say(f"{self.name}: would write {path}{replaced}")
            elif path.exists():
                say(f"{self.name}: reads {path}")
            # a training says itself what it needs; drawn people need no source
            elif not self.trains and not (name == "source" and params.fetch_faces.source == "drawn"):
                raise DataError(f"{path} does not exist: run the stage that writes it")
        if self.trains:
            from gwainet.training.trials import a_few_steps  # heavy

            section = getattr(params, self.name)
            changed = {"validation_faces": min(section.validation_faces, REHEARSED_FACES)}
            runtime = params.runtime.model_copy(update={"processes": 1})
            params = params.model_copy(update={self.name: section.model_copy(update=changed), "runtime": runtime})
            with TemporaryDirectory() as folder, a_few_steps():
                arguments: dict[str, object] = {**paths, "out": Path(folder) / "out", "work": Path(folder) / "work"}
                if variant is not None:
                    arguments["variant"] = variant
                self.function()(params, recorder=NullRecorder(), **arguments)
        say(f"{self.name}: nothing was kept")

    @contextmanager
    def _checkpoints_mirrored(self) -> Iterator[None]:
        """Keep a training's checkpoints in the bucket that GWAINET_CHECKPOINTS names, too."""
        if not self.trains:
            yield
            return
        from gwainet.storage import checkpoint_mirror
        from gwainet.training.checkpoint import mirrored

        with checkpoint_mirror() as mirror, mirrored(mirror):
            yield


_FACES = "data/{profile}/faces"
_PASSED = "reports/{profile}/check_faces/passed.json"
_INET = "models/{profile}/pretrain_inet"
_WNET = "models/{profile}/pretrain_wnet"
_PSNR = "models/{profile}/train_psnr"
_ADVERSARIAL = "models/{profile}/train_adversarial"
_BASELINES = "models/{profile}/train_baselines"

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("fetch_faces", ("fetch_faces",), {"source": "data/source/{profile}"}, "data/{profile}/raw"),
        Stage(
            "prepare_faces",
            ("prepare_faces",),
            {"source": "data/source/{profile}", "raw": "data/{profile}/raw"},
            _FACES,
        ),
        Stage("check_faces", ("prepare_faces", "check_faces"), {"faces": _FACES}, "reports/{profile}/check_faces"),
        Stage("pretrain_inet", ("networks", "pretrain_inet"), {"faces": _FACES, "passed": _PASSED}, _INET),
        Stage("pretrain_wnet", ("networks", "pretrain_wnet"), {"faces": _FACES, "passed": _PASSED}, _WNET),
        Stage(
            "train_psnr",
            ("networks", "train_psnr"),
            {"faces": _FACES, "passed": _PASSED, "wnet": "{start}"},
            _PSNR + "/{variant}",
            ("guided", "banet"),
            {"guided": _WNET},
        ),
        Stage(
            "train_adversarial",
            ("networks", "train_adversarial"),
            {"faces": _FACES, "passed": _PASSED, "psnr": "{start}", "inet": _INET},
            _ADVERSARIAL + "/{variant}",
            ("gwainet", "gwanet", "banet"),
            {"gwainet": _PSNR + "/guided", "gwanet": _PSNR + "/guided", "banet": _PSNR + "/banet"},
        ),
        Stage(
            "train_baselines",
            ("networks", "train_baselines"),
            {"faces": _FACES, "passed": _PASSED, "start": "{start}", "inet": _INET},
            _BASELINES + "/{variant}",
            get_args(BaselineSystem),
            {"srgan": _BASELINES + "/srresnet"},
        ),
        Stage(
            "benchmark",
            ("networks", "benchmark"),
            {
                "faces": _FACES,
                "passed": _PASSED,
                "psnr": _PSNR,
                "adversarial": _ADVERSARIAL,
                "baselines": _BASELINES,
            },
            "reports/{profile}/benchmark",
        ),
        Stage(
            "register_model",
            ("networks", "register_model"),
            {"faces": _FACES, "passed": _PASSED, "adversarial": _ADVERSARIAL, "report": "reports/{profile}/benchmark"},
            "models/{profile}/register_model",
        ),
    )
}
