"""Train another paper's system in our harness: same people, same inputs, same loop, as long as ours."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from gwainet.baselines.budget import settings_for, untrained, uses_features
from gwainet.baselines.model import KIND, SYSTEMS, BaselineMetadata, build_baseline, forward_macs, load_baseline
from gwainet.baselines.phases import make_phase
from gwainet.dataset import Faces, open_checked
from gwainet.errors import CheckpointError, ParamsError
from gwainet.files import write_json
from gwainet.nets.model import load_inet
from gwainet.params import BaselineSystem, Params
from gwainet.progress import say
from gwainet.recorder import NullRecorder, Recorder
from gwainet.stages import STAGES
from gwainet.training.phases import total_steps
from gwainet.training.session import Session

STAGE = STAGES["train_baselines"]
SEEDS = "seeds"


def run(
    params: Params,
    *,
    variant: str,
    faces: Path,
    passed: Path,
    inet: Path,
    out: Path,
    work: Path,
    recorder: Recorder,
    start: Path | None = None,
) -> None:
    """Train one system. Without a critic the weights of the highest validation PSNR are kept, with one the last.

    `variant` is a system; `start` is what this stage wrote for the system it goes on from (SRGAN: SRResNet); `inet` is
    what `pretrain_inet` wrote, read only by a system with a critic. The other arguments are those of every training
    stage (`gwainet.stages`). `seeds/` in `out` holds `seeds.json` and a folder like `out` for each of `more_seeds`,
    which are trained first, each by itself: a killed stage trains none again that had finished.

    Raises:
        ContractError: the faces were not checked.
        CheckpointError: weights are missing or do not fit.
        ParamsError: there is no such system.
        DataError: the system needs landmarks, the faces have none, and `train_baselines.landmarks` is on.
    """
    system = next((name for name in SYSTEMS if name == variant), None)
    if system is None:
        raise ParamsError(f"there is no system `{variant}`; there are {', '.join(SYSTEMS)}")
    data = open_checked(faces, passed)
    own = params.train_baselines
    others: dict[int, Path] = {}
    if reason := untrained(params, system, data.landmarks is not None):
        say(f"{STAGE.name}@{system} is not trained, and the benchmark leaves it out: {reason}")

    def train(seed: int, target: Path | None, recorder: Recorder, finish: Callable[[Path], None] | None) -> Path:
        section = own.model_copy(update={"seed": seed, "more_seeds": ()})  # more seeds are no reason to start afresh
        training = _Training(params.model_copy(update={"train_baselines": section}), system, data, work, recorder)
        from_ = None if start is None else start if seed == own.seed else start / SEEDS / str(seed)
        return training.train(from_, inet, target, finish)

    for seed in own.more_seeds:
        others[seed] = train(seed, None, NullRecorder(), None)
        recorder.metrics({f"seed_{seed}.{name}": value for name, value in _headline(others[seed]).items()})

    def bring(directory: Path) -> None:
        write_json(directory / SEEDS / "seeds.json", {"seeds": [own.seed, *own.more_seeds]})
        for seed, folder in others.items():
            shutil.copytree(folder, directory / SEEDS / str(seed))

    train(own.seed, out, recorder, bring)
    for folder in others.values():
        shutil.rmtree(folder)


def _headline(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))


class _Training:
    """One training of a system, with one seed."""

    def __init__(self, params: Params, system: BaselineSystem, data: Faces, work: Path, recorder: Recorder) -> None:
        self.params, self.system, self.data, self.work, self.recorder = params, system, data, work, recorder
        self.settings = settings_for(params, system, data.height, data.width, data.landmarks is not None)

    def train(self, start: Path | None, inet: Path, out: Path | None, finish: Callable[[Path], None] | None) -> Path:
        """Train it, and return the directory that was written.

        Args:
            start: of the system it goes on from; None: from fresh weights.
            inet: what `pretrain_inet` wrote.
            out: directory to write; None: one below `work`, which is left alone if an earlier run has finished it.
            finish: writes more into it.
        """
        system, settings, data, recorder = self.system, self.settings, self.data, self.recorder
        inputs = {} if start is None else {"start": start / "weights.safetensors"}
        if uses_features(settings):
            inputs["inet"] = inet / "weights.safetensors"
        name = f"{STAGE.name}@{system}"
        session = Session(
            name, self.params, STAGE.sections, data, inputs, self.work, recorder, ("baselines", "macs.py")
        )
        if out is None:
            out = self.work / SEEDS / session.checkpoints.directory.name
            if out.is_dir():
                say(f"{name}: seed {settings.seed} is trained already ({out})")
                return out
        baseline = build_baseline(system, data.means, settings.narrow, settings.seed)
        seen = 0
        if start is not None:
            before, metadata = load_baseline(inputs["start"], session.device)
            seen = metadata.images
            if before.narrow != baseline.narrow:
                raise CheckpointError(f"{inputs['start']} is of another width: run the stage that writes it again")
            baseline.network.load_state_dict(before.network.state_dict())
        encoder = load_inet(inputs["inet"], session.device) if "inet" in inputs else None
        phase = make_phase(baseline, encoder, data, settings, session.device)
        images = total_steps(settings, len(data.targets("train"))) * settings.batch_size
        images += seen if images else 0  # untrained is untrained, whatever it starts from
        metadata = BaselineMetadata(system, settings.narrow, data.means, data.height, data.width, images)
        macs = forward_macs(lambda: build_baseline(system, data.means, settings.narrow, 0), data.height, data.width)
        recorder.params({"baseline.epochs": settings.epochs, "baseline.images": images, "baseline.forward_macs": macs})
        session.train(
            phase,
            settings,
            out,
            {"weights.safetensors": (KIND, baseline)},
            guided=baseline.guided,
            best=None if SYSTEMS[system].critic else "psnr",
            describe=lambda _: metadata,
            finish=finish,
            same=self.params.train_baselines.same,
        )
        return out
