import pytest
import yaml

from gwainet.errors import ClusterError
from pipeline.package import differences, package_of, read_package
from tests.pipeline.conftest import PARAMS
from tests.pipeline.toy import compile_toy


def changed(tmp_path, params=PARAMS, **options):
    return read_package(compile_toy(tmp_path / "changed.yaml", params, **options))


def test_stages_come_in_an_order_in_which_they_can_run(package):
    assert list(read_package(package).stages().items()) == [
        ("fetch-faces", "fetch-faces"),
        ("train-psnr", "train_psnr@guided"),
    ]


def test_stages_below_a_condition_and_a_loop_are_found(tmp_path):
    from kfp import compiler, dsl

    @dsl.component(base_image="x-python:1", install_kfp_package=False)
    def stage(text: str) -> str:
        return text

    @dsl.pipeline(name="nested")
    def nested(text: str = "a"):
        first = stage(text=text).set_display_name("first")
        with dsl.If(first.output == "a", name="gate"):
            stage(text=first.output)
            with dsl.ParallelFor(["x", "y"]) as item:
                stage(text=item)

    compiler.Compiler().compile(nested, str(tmp_path / "nested.yaml"))
    assert sorted(read_package(tmp_path / "nested.yaml").stages()) == ["stage", "stage-2", "stage-3"]


def test_a_package_equals_itself_after_it_was_on_the_server(package):
    spec, platform = yaml.safe_load_all(package.read_text())
    ours = read_package(package)
    assert package_of({"pipeline_spec": spec, "platform_spec": platform}, "the server") == ours
    assert package_of(spec, "the server").spec == ours.spec
    assert differences(ours, package_of({"pipeline_spec": spec, "platform_spec": platform}, "the server")) == []


def test_values_have_the_params_dotted_names(package):
    values = read_package(package).values()
    assert values["params.train_psnr.learning_rate"] == 5e-4
    assert values["params.benchmark.splits"] == ["test"]
    assert values["parameter.note.defaultValue"] == "1e-4"  # text: YAML 1.1, as kfp reads it
    assert values["train-psnr.container.image"] == "registry/gwainet-python:0.1.0"
    assert values["train-psnr.container.resources.resourceMemoryLimit"] == "64Gi"
    assert "train-psnr.container.resources.memoryLimit" not in values  # the same in another unit


def test_a_parameter_that_is_json_but_no_params_keeps_its_tasks_and_its_own_name(tmp_path):
    from kfp import compiler, dsl

    @dsl.component(base_image="x-python:1", install_kfp_package=False)
    def stage(params: str, trainjob: str = "") -> str:
        return params + trainjob

    @dsl.pipeline(name="jobs")
    def jobs():
        stage(params='{"networks": {"width": 64}}', trainjob='{"spec": {"trainer": {"numNodes": 2}}}')

    compiler.Compiler().compile(jobs, str(tmp_path / "jobs.yaml"))
    values = read_package(tmp_path / "jobs.yaml").values()
    assert values["params.networks.width"] == 64
    assert values["stage.trainjob.spec.trainer.numNodes"] == 2
    assert not any(name.startswith("params.spec") for name in values)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (
            {"params": {**PARAMS, "train_psnr": {"learning_rate": 2e-4, "epochs": 5.0}}},
            ["-params.train_psnr.learning_rate: 0.0005", "+params.train_psnr.learning_rate: 0.0002"],
        ),
        (
            {"params": {**PARAMS, "extra": None}},
            ["+params.extra: null"],
        ),
        (
            {"image": "registry/gwainet-python:0.2.0"},
            [
                '-fetch-faces.container.image: "registry/gwainet-python:0.1.0"',
                '+fetch-faces.container.image: "registry/gwainet-python:0.2.0"',
            ],
        ),
        (
            {"gpus": 2},
            [
                '-train-psnr.container.resources.accelerator.resourceCount: "1"',
                '+train-psnr.container.resources.accelerator.resourceCount: "2"',
            ],
        ),
        (
            {"timeout": 7200},
            [
                '-train-psnr.kubernetes.activeDeadlineSeconds: "3600"',
                '+train-psnr.kubernetes.activeDeadlineSeconds: "7200"',
            ],
        ),
    ],
)
def test_a_change_shows_as_what_changed_and_nothing_else(package, tmp_path, change, lines):
    theirs, ours = read_package(package), changed(tmp_path, **change)
    assert differences(theirs, ours) == lines
    assert theirs.digest != ours.digest


def test_what_changes_alike_for_every_task_is_one_change(package, tmp_path):
    text = package.read_text().replace("gwainet-python:0.1.0", "gwainet-python:0.2.0")
    (tmp_path / "other.yaml").write_text(text)
    assert differences(read_package(package), read_package(tmp_path / "other.yaml")) == [
        '-*.container.image: "registry/gwainet-python:0.1.0"',
        '+*.container.image: "registry/gwainet-python:0.2.0"',
    ]


def test_a_task_with_params_of_its_own_is_shown_with_its_name(package):
    import json

    spec = yaml.safe_load_all(package.read_text()).__next__()
    parameter = spec["root"]["dag"]["tasks"]["train-psnr"]["inputs"]["parameters"]["params"]["runtimeValue"]
    parameter["constant"] = json.dumps({**PARAMS, "profile": "pairs"})
    assert differences(
        package_of(yaml.safe_load_all(package.read_text()).__next__(), "theirs"), package_of(spec, "ours")
    ) == ['+train-psnr.params.profile: "pairs"']


def test_a_changed_component_shows_as_a_digest_and_not_as_its_source(package):
    spec = yaml.safe_load_all(package.read_text()).__next__()
    before = package_of(spec, "theirs")
    command = spec["deploymentSpec"]["executors"]["exec-train-psnr"]["container"]["command"]
    command[-1] += "\n# changed"
    lines = differences(before, package_of(spec, "ours"))
    assert [line.split(":")[0] for line in lines] == ["-train-psnr.container.command", "+train-psnr.container.command"]
    assert all("characters, sha256" in line and len(line) < 120 for line in lines)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not a compiled pipeline"),
        ("[1, 2]", "is not a compiled pipeline"),
        ("root: 1", "is not a compiled pipeline"),
        ("pipelineInfo: {name: x}", "it has no tasks"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_package_is_named(tmp_path, content, reason):
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ClusterError, match=f"x.yaml {reason}|x.yaml is not a compiled pipeline: {reason}"):
        read_package(path)
    with pytest.raises(ClusterError, match=r"absent\.yaml cannot be read"):
        read_package(tmp_path / "absent.yaml")
