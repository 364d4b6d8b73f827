"""Train Wnet, Gnet and Cnet with Eqs. 8 and 9 (Sec. 4.2): GWAInet, GWAnet (lambda_id 0), BAnet (unguided)."""

from pathlib import Path

from gwainet.dataset import open_checked
from gwainet.files import staged_directory
from gwainet.nets.model import Generator, Metadata, build_cnet, load_inet, load_into, read_weights, save_weights
from gwainet.params import Params
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.loop import Plan
from gwainet.training.phases import AdversarialPhase
from gwainet.training.session import Session

STAGE = STAGES["train_adversarial"]


def run(
    params: Params,
    *,
    variant: str,
    faces: Path,
    passed: Path,
    psnr: Path,
    inet: Path,
    out: Path,
    work: Path,
    recorder: Recorder,
) -> None:
    """Continue the PSNR phase's weights with the critic; the last step's weights are kept.

    Args:
        params: of the profile; `networks` and `train_adversarial` shape the result.
        variant: `gwainet`, `gwanet` or `banet`.
        faces: what `prepare_faces` wrote.
        passed: `passed.json` of `check_faces`.
        psnr: what `train_psnr` wrote for the variant this one starts from.
        inet: what `pretrain_inet` wrote; read only where lambda_id is not 0.
        out: directory to write (docs/formats.md).
        work: directory of checkpoints.
        recorder: where numbers and pictures go.

    Raises:
        ContractError: the faces were not checked.
        CheckpointError: weights are missing or do not fit.
    """
    data, settings, networks = open_checked(faces, passed), params.train_adversarial, params.networks
    inputs = {"psnr": psnr / "weights.safetensors"}
    with_identity = variant == "gwainet" and settings.lambda_id > 0
    if with_identity:
        inputs["inet"] = inet / "weights.safetensors"
    session = Session(f"{STAGE.name}@{variant}", params, STAGE.sections, data, inputs, work, recorder)
    tensors, started = read_weights(inputs["psnr"], "generator")
    generator = Generator(networks, data.means, started.guided)
    load_into(generator, tensors, inputs["psnr"])
    critic = build_cnet(networks, data.height, data.width, settings.seed)
    encoder = load_inet(inputs["inet"], session.device) if with_identity else None
    phase = AdversarialPhase(generator, critic, encoder, data, settings, session.device)
    steps = phase.parts[-1][0] if phase.parts else 0
    plan = Plan(
        f"{STAGE.name}@{variant}",
        steps,
        settings.validate_every,
        checkpoint_seconds=params.runtime.checkpoint_seconds,
    )
    outcome = session.fit(phase, plan)
    with staged_directory(out) as directory:
        metadata = Metadata("generator", networks, data.means, data.height, data.width, generator.guided)
        save_weights(directory / "weights.safetensors", generator, metadata)
        metadata = Metadata("critic", networks, data.means, data.height, data.width, generator.guided)
        save_weights(directory / "critic.safetensors", critic, metadata)
        session.write(directory, phase, outcome, {"critic_updates": float(outcome.steps * settings.critic_updates)})
    session.finish(out)
