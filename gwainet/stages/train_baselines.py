"""Train another paper's system in our harness: same people, same inputs, same loop, as long as ours."""

from pathlib import Path

from gwainet.baselines.budget import settings_for, untrained, uses_features
from gwainet.baselines.model import KIND, SYSTEMS, BaselineMetadata, build_baseline, forward_macs, load_baseline
from gwainet.baselines.phases import make_phase
from gwainet.dataset import open_checked
from gwainet.errors import CheckpointError, ParamsError
from gwainet.nets.model import load_inet
from gwainet.params import Params
from gwainet.progress import say
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.phases import total_steps
from gwainet.training.seeds import OneSeed, train_each
from gwainet.training.session import Session

STAGE = STAGES["train_baselines"]


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
    stage (`gwainet.stages`). `seeds/` in `out` holds the trainings of further seeds (`gwainet.training.seeds`), SRGAN's
    from SRResNet's of the same seed.

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
    if reason := untrained(params, system, data.has_landmarks):
        say(f"{STAGE.name}@{system} is not trained, and the benchmark leaves it out: {reason}")

    def train(one: OneSeed) -> None:
        settings = settings_for(one.params, system, data.height, data.width, data.has_landmarks)
        inputs = {} if one.start is None else {"start": one.start / "weights.safetensors"}
        if uses_features(settings):
            inputs["inet"] = inet / "weights.safetensors"
        name, code = f"{STAGE.name}@{system}", ("baselines", "macs.py")
        session = Session(name, one.params, STAGE.sections, data, inputs, work, one.recorder, code)
        if one.is_done(session):
            return
        baseline = build_baseline(system, data.means, settings.narrow, settings.seed)
        seen = 0
        if one.start is not None:
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
        facts = {"epochs": settings.epochs, "images": images, "forward_macs": macs}
        one.recorder.params({f"baseline.{name}": value for name, value in facts.items()})
        session.train(
            phase,
            settings,
            one.out,
            {"weights.safetensors": (KIND, baseline)},
            guided=baseline.guided,
            best=None if SYSTEMS[system].critic else "psnr",
            describe=lambda _: metadata,
            finish=one.finish,
            same=one.params.train_baselines.same,
        )

    train_each(STAGE.name, params, train, out=out, work=work, recorder=recorder, start=start)
