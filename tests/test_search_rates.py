"""The search for learning rates: what it trains, what it never looks at, and that it goes on where it was."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gwainet import search_rates
from gwainet.errors import CheckpointError, DataError, DivergedError, ParamsError, TrainingError
from gwainet.files import write_json
from gwainet.params import Params
from gwainet.search_rates import Trial, choose, search
from gwainet.stages import STAGES
from tests.faces import write_faces
from tests.training_params import Project, make_project, metrics

RATES = [1e-4, 1e-3]
STAGE = "train_baselines"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path)


def params_of(project: Project, rates: list[float] = RATES, share: float = 0.5, **settings: object) -> Params:
    search_values = {"rates": rates, "share": share}
    params = project.params(STAGE, **settings)
    return params.model_copy(update={"search_rates": type(params.search_rates).model_validate(search_values)})


def table_of(project: Project) -> pd.DataFrame:
    return pd.read_csv(project.root / "reports/tiny/search_rates/rates.csv")


def test_each_rate_is_tried_as_the_stage_would_train_for_a_share_of_its_epochs(project):
    found = search(params_of(project), project.root, project.root, ["srcnn", "edsr"])
    table = table_of(project)
    assert table[["system", "learning_rate"]].to_numpy().tolist() == [
        [system, rate] for system in ("srcnn", "edsr") for rate in RATES
    ]
    assert (table["steps"] == 4).all()  # half of an epoch of 15 faces, in batches of 2
    for system, rate in (("srcnn", 1e-3), ("edsr", 1e-4)):
        out = project.run(STAGE, system, out=f"{system}-alone", epochs=0.5, learning_rates={system: rate})
        line = table[(table["system"] == system) & (table["learning_rate"] == rate)].iloc[0]
        assert line["psnr"] == pytest.approx(metrics(out)["psnr"], abs=1e-6)
    written = json.loads((project.root / "reports/tiny/search_rates/rates.json").read_text())["chosen"]
    for system in ("srcnn", "edsr"):
        of_system = table[table["system"] == system]
        best = of_system["learning_rate"].to_numpy()[of_system["psnr"].to_numpy().argmax()]
        assert found[system].learning_rate == written[system]["learning_rate"] == best
        assert written[system]["param"] == f"train_baselines.learning_rates.{system}"
    assert not STAGES[STAGE].paths("tiny", "srcnn", project.root)["out"].exists()  # the stage's own place is left alone


def test_ours_is_searched_with_the_same_rates(project):
    project.run("pretrain_wnet", epochs=0.25)
    found = search(params_of(project), project.root, project.root, ["guided"])
    assert found["guided"].param == "train_psnr.learning_rate"
    assert table_of(project)["steps"].tolist() == [4, 4]


def test_further_seeds_of_ours_are_not_searched_and_change_no_trial(project):
    project.run("pretrain_wnet", epochs=0.25)
    search(params_of(project), project.root, project.root, ["guided"])
    before, params = table_of(project), params_of(project)
    section = params.train_psnr.model_copy(update={"more_seeds": (1, 2)})
    search(params.model_copy(update={"train_psnr": section}), project.root, project.root / "again", ["guided"])
    pd.testing.assert_frame_equal(table_of(project), before)  # digests of the trials, too
    assert not list((project.root / "again").rglob("seeds/1"))


def test_no_face_of_the_test_split_is_looked_at(project):
    search(params_of(project), project.root, project.root, ["srcnn"])
    before = table_of(project)
    path = STAGES[STAGE].paths("tiny", "srcnn", project.root)["faces"]
    test = (project.faces.manifest["split"] == "test").to_numpy()
    for name in ("hr.npy", "lr.npy"):
        pictures = np.load(path / name)
        pictures[test] = 255 - pictures[test]
        np.save(path / name, pictures)
    search(params_of(project), project.root, project.root / "elsewhere", ["srcnn"])
    pd.testing.assert_frame_equal(table_of(project), before)
    validation = (project.faces.manifest["split"] == "validation").to_numpy()
    pictures = np.load(path / "hr.npy")
    pictures[validation] = 255 - pictures[validation]
    np.save(path / "hr.npy", pictures)
    search(params_of(project), project.root, project.root / "again", ["srcnn"])
    assert not table_of(project)["psnr"].equals(before["psnr"])  # of those it does


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The systems that are really trained, in order."""
    run = STAGES[STAGE].function()
    systems: list[str] = []

    def counted(params, *, variant, **arguments):
        systems.append(variant)
        run(params, variant=variant, **arguments)

    monkeypatch.setattr("gwainet.stages.train_baselines.run", counted)
    return systems


def test_a_finished_trial_is_not_made_again_unless_it_has_changed(project, trained):
    search(params_of(project), project.root, project.root, ["srcnn", "vdsr"])
    first = (project.root / "reports/tiny/search_rates/rates.csv").read_bytes()
    assert trained == ["srcnn", "srcnn", "vdsr", "vdsr"]
    search(params_of(project), project.root, project.root, ["srcnn", "vdsr"])
    assert len(trained) == 4
    assert (project.root / "reports/tiny/search_rates/rates.csv").read_bytes() == first
    search(params_of(project, rates=[*RATES, 1e-2]), project.root, project.root, ["vdsr"])
    assert trained[4:] == ["vdsr"]  # the new rate alone
    assert len(table_of(project)) == 5  # srcnn's lines stay
    search(params_of(project, share=1.0), project.root, project.root, ["vdsr"])
    assert trained[5:] == ["vdsr", "vdsr"]
    assert set(table_of(project)["system"]) == {"vdsr"}  # lines of another budget do not stand beside these


def test_a_killed_search_goes_on_with_the_trial_it_was_in(project, monkeypatch, trained):
    saved = search_rates._made

    def killed(planned, work):
        if planned.rate == RATES[1]:
            raise KeyboardInterrupt
        return saved(planned, work)

    monkeypatch.setattr(search_rates, "_made", killed)
    with pytest.raises(KeyboardInterrupt):
        search(params_of(project), project.root, project.root, ["srcnn"])
    monkeypatch.setattr(search_rates, "_made", saved)
    search(params_of(project), project.root, project.root, ["srcnn"])
    assert trained == ["srcnn", "srcnn"]


def test_srgan_starts_from_the_searchs_own_srresnet(project, trained):
    project.run("pretrain_inet", epochs=0.25)
    search(params_of(project), project.root, project.root, ["srgan"])
    assert trained == ["srresnet", "srgan", "srgan"]
    assert set(table_of(project)["system"]) == {"srgan"}


def test_a_rate_with_which_the_training_goes_wrong_is_a_line_without_psnr(project, monkeypatch):
    run = STAGES[STAGE].function()
    calls = []

    def sometimes(params, *, variant, **arguments):
        calls.append(params.train_baselines.learning_rates.srcnn)
        if calls[-1] == RATES[1]:
            raise DivergedError("the loss is no number")
        run(params, variant=variant, **arguments)

    monkeypatch.setattr("gwainet.stages.train_baselines.run", sometimes)
    for _ in range(2):  # that it went wrong is remembered, too
        found = search(params_of(project), project.root, project.root, ["srcnn"])
    assert calls == RATES
    assert table_of(project)["psnr"].isna().tolist() == [False, True]
    assert table_of(project)["failure"].tolist()[1] == "the loss is no number"
    assert found["srcnn"].learning_rate == RATES[0]


def test_memory_that_ran_out_says_nothing_of_a_rate_and_is_tried_again(project, monkeypatch):
    run = STAGES[STAGE].function()
    full = [True]

    def sometimes(params, *, variant, **arguments):
        if full[0]:
            raise TrainingError("out of memory")
        run(params, variant=variant, **arguments)

    monkeypatch.setattr("gwainet.stages.train_baselines.run", sometimes)
    assert search(params_of(project), project.root, project.root, ["srcnn"])["srcnn"].learning_rate is None
    assert set(table_of(project)["failure"]) == {"out of memory"}
    full[0] = False
    search(params_of(project), project.root, project.root, ["srcnn"])
    assert table_of(project)["psnr"].notna().all()


def test_where_srresnet_fails_srgan_has_failed_and_the_search_goes_on(project, monkeypatch):
    run = STAGES[STAGE].function()

    def sometimes(params, *, variant, **arguments):
        if variant == "srresnet":
            raise DivergedError("the loss is no number")
        run(params, variant=variant, **arguments)

    monkeypatch.setattr("gwainet.stages.train_baselines.run", sometimes)
    found = search(params_of(project), project.root, project.root, ["srgan", "srcnn"])
    assert found["srgan"].learning_rate is None
    assert found["srcnn"].learning_rate is not None
    failures = table_of(project).set_index("system")["failure"]
    assert set(failures["srgan"]) == {"SRResNet, which it starts from, failed: the loss is no number"}
    assert failures["srcnn"].isna().all()


def test_lines_of_other_code_are_left_out_and_those_of_other_rates_in_params_stay(project, monkeypatch, trained):
    search(params_of(project), project.root, project.root, ["srcnn"])
    search(params_of(project, learning_rates={"srcnn": 1e-3, "edsr": 3e-4}), project.root, project.root, ["vdsr"])
    assert set(table_of(project)["system"]) == {"srcnn", "vdsr"}
    assert table_of(project)["digest"].nunique() == 4
    monkeypatch.setattr(search_rates, "code_digest", lambda *_: "other")
    search(params_of(project), project.root, project.root, ["vdsr"])
    assert set(table_of(project)["system"]) == {"vdsr"}
    assert trained == ["srcnn"] * 2 + ["vdsr"] * 4


def test_all_code_that_a_trial_depends_on_is_in_its_digest():
    needed = {"nets", "baselines", "training", "macs.py", "enlarge.py", "compiled.py", "bicubic.py", "images.py"}
    assert needed | {"stages/train_baselines.py", "stages/train_psnr.py"} <= set(search_rates.CODE)


def test_the_best_rate_is_of_the_highest_psnr_and_an_edge_is_said():
    def found(*psnr: float | None):
        return choose("vdsr", [Trial("vdsr", 10.0 ** (place - 5), value, 9) for place, value in enumerate(psnr)])

    assert (found(20.0, 21.0, 20.5).learning_rate, found(20.0, 21.0, 20.5).at_the_edge) == (1e-4, False)
    assert (found(20.0, 21.0, 21.5).learning_rate, found(20.0, 21.0, 21.5).at_the_edge) == (1e-3, True)
    assert found(20.0, 21.0, 21.0).learning_rate == 1e-4  # of equal ones the lowest
    assert found(None, 19.0, None).learning_rate == 1e-4
    assert found(None, None).learning_rate is None


def test_no_rate_is_searched_for_a_system_that_the_data_cannot_train(tmp_path, capsys):
    project = Project(tmp_path)
    paths = project.paths(STAGE, "srcnn")
    write_faces(paths["faces"], identities={"train": 5, "validation": 2, "test": 2}, images=3)
    write_json(paths["passed"], {"format": 1, "digest": project.faces.digest, "expectations": 1})
    found = search(params_of(project, [1e-4]), project.root, project.root, ["srcnn", "gfrnet_landmarks"])
    assert set(found) == set(table_of(project)["system"]) == {"srcnn"}
    assert "no rate is searched for gfrnet_landmarks" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(DataError, match="list_landmarks_align_celeba"):
        search(params_of(project, landmarks="on"), project.root, project.root, ["gfrnet_landmarks"])


def test_a_system_that_does_not_exist_and_weights_that_are_missing_are_named(project):
    with pytest.raises(ParamsError, match="no system `cbn`; there are srcnn"):
        search(params_of(project), project.root, project.root, ["cbn"])
    with pytest.raises(CheckpointError, match="pretrain_inet"):
        search(params_of(project), project.root, project.root, ["gfrnet"])
