"""A whole chain of tracked stages, from photos to a registered model, for tests."""

import json
from pathlib import Path

from gwainet.files import file_digest, write_json
from gwainet.params import check_params
from gwainet.tracking.registry import Registered, register
from tests.tracking.models import candidate
from tests.tracking.stages import stage

FACES_DIGEST = "f" * 64


def make_chain(root: Path) -> Registered:
    """fetch -> prepare -> check -> train -> benchmark -> register, each a tracked run that really writes its files."""
    raw, faces, checked, model = root / "raw", root / "faces", root / "checked", root / "models" / "gwainet"
    with stage(root, "fetch_faces", None, out=raw, inputs={"source": root / "nothing"}) as recorder:
        raw.mkdir()
        (raw / "photos.zip").write_text("photos")
        files = [{"role": "images", "path": "photos.zip", "bytes": 6, "sha256": file_digest(raw / "photos.zip")}]
        facts = {"source": "folder", "licence": "research only", "photos": 12, "identities": 4, "files": files}
        recorder.tags({"gwainet.source": json.dumps(facts)})
    (root / "brought").mkdir()
    with stage(root, "prepare_faces", None, out=faces, inputs={"source": root / "brought", "raw": raw}):
        faces.mkdir()
        write_json(faces / "faces.json", {"digest": FACES_DIGEST})
    with stage(root, "check_faces", None, out=checked, inputs={"faces": faces}):
        checked.mkdir()
        write_json(checked / "passed.json", {"digest": FACES_DIGEST, "expectations": 3})
    passed = checked / "passed.json"
    made = candidate(root)
    params = check_params({"profile": "demo", "train_adversarial": {"lambda_id": 0.25}})
    with stage(root, "train_adversarial", "gwainet", params, {"faces": faces, "passed": passed}, model):
        model.mkdir(parents=True)
        (model / "weights.safetensors").write_bytes(made.weights.read_bytes())
    with stage(root, "benchmark", None, inputs={"adversarial_gwainet": model}, out=made.report):
        pass
    inputs = {"faces": faces, "passed": passed, "adversarial_gwainet": model, "report": made.report}
    with stage(root, "register_model", None, inputs=inputs, out=root / "registered") as recorder:
        return register(candidate(root, tags={"variant": "gwainet", "data_digest": FACES_DIGEST}), recorder)
