import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gwainet.errors import ParamsError
from gwainet.params import Params, _merge, check_params, load_params
from gwainet.stages import STAGES

PROJECT = Path(__file__).parents[1]
SECTIONS = sorted(set(Params.model_fields) - {"profile"})
SHAPING = sorted(set(SECTIONS) - {"promotion", "runtime", "search_rates"})

# one changed, valid value of each section
CHANGES: dict[str, dict[str, Any]] = {
    "fetch_faces": {"drawn": {"people": 7}},
    "prepare_faces": {"crop": {"top": 26}},
    "check_faces": {"images": {"train": 5}},
    "networks": {"sampler": "border"},
    "pretrain_inet": {"epochs": 1.5},
    "pretrain_wnet": {"seed": 1},
    "train_psnr": {"horizontal_flip": True},
    "train_adversarial": {"schedule": [{"epochs": 4.0, "learning_rate": 1e-4}]},
    "train_baselines": {"learning_rates": {"vdsr": 3e-4}},
    "benchmark": {"splits": ["test"]},
    "register_model": {"variant": "gwanet"},
    "promotion": {"least_people": 31},
    "search_rates": {"share": 0.5},
    "runtime": {"threads": 3},
}


@pytest.fixture
def load(tmp_path):
    """Write `base` and `profiles`, as values or as YAML text, and load a profile."""

    def load(base: Any = None, profiles: Any = None, profile: str | None = None, overrides: tuple[str, ...] = ()):
        path = tmp_path / "params.yaml"
        document = {"profile": "demo", "base": base or {}, "profiles": profiles or {"demo": {}, "lfw": {}}}
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(document, file)
        return load_params(path, profile, overrides)

    return load


def load_text(tmp_path: Path, text: str, profile: str | None = None) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path, profile)


def message(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(ParamsError) as caught:
        call(*arguments, **named)
    return str(caught.value)


# ---------------------------------------------------------------- merging


def test_the_order_is_default_then_base_then_profile_then_set(load):
    name = "train_psnr.batch_size"
    base, demo = {"train_psnr": {"batch_size": 21}}, {"train_psnr": {"batch_size": 22}}
    assert load().flat()[name] == Params(profile="x").train_psnr.batch_size == 16
    assert load(base).flat()[name] == 21
    assert load(base, {"demo": demo}).flat()[name] == 22
    assert load(base, {"demo": demo}, None, (f"{name}=23",)).flat()[name] == 23
    assert load(base, {"demo": demo}, None, (f"{name}=23", f"{name}=24")).flat()[name] == 24


def test_a_profile_changes_what_it_names_and_leaves_the_values_beside_it(load):
    params = load(
        {"prepare_faces": {"crop": {"top": 1, "left": 2}, "seed": 5}},
        {"demo": {"prepare_faces": {"crop": {"left": 3}}}},
    )
    assert params.prepare_faces.crop.top == 1
    assert params.prepare_faces.crop.left == 3
    assert params.prepare_faces.crop.height == 168
    assert params.prepare_faces.seed == 5


def test_a_list_replaces_a_list(load):
    part = {"epochs": 1.0, "learning_rate": 0.1}
    params = load(
        {"train_adversarial": {"schedule": [part] * 3}}, {"demo": {"train_adversarial": {"schedule": [part]}}}
    )
    assert len(params.train_adversarial.schedule) == 1


def test_the_asked_profile_wins_over_the_files_own_and_the_others_do_not_leak(load):
    profiles = {"demo": {"networks": {"width": 8}}, "lfw": {"networks": {"width": 9}}}
    assert load({}, profiles).profile == "demo"
    assert load({}, profiles).networks.width == 8
    assert load({}, profiles, "lfw").profile == "lfw"
    assert load({}, profiles, "lfw").networks.width == 9


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
trees = st.dictionaries(st.sampled_from("abcd"), json_values, max_size=4)


@given(trees, trees, trees)
@settings(max_examples=50, deadline=None)
def test_merging_is_associative_idempotent_has_the_empty_mapping_as_identity_and_changes_no_argument(a, b, c):
    before = copy.deepcopy((a, b, c))
    assert _merge(a, {}) == a == _merge({}, a)
    assert _merge(a, a) == a
    assert (a, b, c) == before
    if not (_has_clash(a, b) or _has_clash(b, c) or _has_clash(a, c)):
        assert _merge(_merge(a, b), c) == _merge(a, _merge(b, c))
    assert (a, b, c) == before


@given(trees, trees)
@settings(max_examples=50, deadline=None)
def test_each_leaf_of_a_merge_is_the_uppers_where_it_has_one_and_else_the_lowers(a, b):
    merged = _merge(a, b)
    assert set(merged) == set(a) | set(b)
    for key, value in merged.items():
        if key not in b:
            assert value == a[key]
        elif isinstance(b[key], dict) and isinstance(a.get(key), dict):
            assert value == _merge(a[key], b[key])
        else:
            assert value == b[key]


def _has_clash(a: Any, b: Any) -> bool:
    """Whether a mapping meets something else under one name."""
    if isinstance(a, dict) != isinstance(b, dict):
        return True
    return isinstance(a, dict) and any(_has_clash(a[key], b[key]) for key in a.keys() & b.keys())


# ---------------------------------------------------------------- what is refused

# values at a place, the full name that the message must have, what it must say was expected
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"train_psn": {}}, "`train_psn`", "train_psnr"),
    ({"train_psnr": {"learning_rat": 1e-4}}, "`train_psnr.learning_rat`", "learning_rate"),
    ({"train_adversarial": {"learning_rate": 1e-4}}, "`train_adversarial.learning_rate`", "schedule"),
    ({"prepare_faces": {"crop": {"hight": 8}}}, "`prepare_faces.crop.hight`", "height, left, top, width"),
    ({"fetch_faces": {"drawn": {"persons": 8}}}, "`fetch_faces.drawn.persons`", "people"),
    ({"check_faces": {"images": {"trian": 8}}}, "`check_faces.images.trian`", "'train', 'validation' or 'test'"),
    (
        {"train_adversarial": {"schedule": [{"epochs": 1.0, "learning_rate": 1e-4}, {"epoch": 1.0}]}},
        "`train_adversarial.schedule.1.epoch`",
        "epochs, learning_rate",
    ),
    ({"train_psnr": {"batch_size": "16"}}, "train_psnr.batch_size = '16'", "valid integer"),
    ({"train_psnr": {"batch_size": 16.0}}, "train_psnr.batch_size = 16.0", "valid integer"),
    ({"train_psnr": {"batch_size": True}}, "train_psnr.batch_size = True", "valid integer"),
    ({"train_psnr": {"batch_size": 0}}, "train_psnr.batch_size = 0", "greater than 0"),
    ({"train_psnr": {"batch_size": None}}, "train_psnr.batch_size = None", "valid integer"),
    ({"train_psnr": {"learning_rate": "1e-4"}}, "train_psnr.learning_rate = '1e-4'", "valid number"),
    ({"train_psnr": {"learning_rate": True}}, "train_psnr.learning_rate = True", "valid number"),
    ({"train_psnr": {"learning_rate": float("inf")}}, "train_psnr.learning_rate = inf", "finite number"),
    ({"train_psnr": {"epochs": float("nan")}}, "train_psnr.epochs = nan", "finite number"),
    ({"train_psnr": {"epochs": -0.5}}, "train_psnr.epochs = -0.5", "greater than or equal to 0"),
    ({"train_psnr": {"horizontal_flip": 1}}, "train_psnr.horizontal_flip = 1", "valid boolean"),
    ({"train_psnr": {"beta1": 1.0}}, "train_psnr.beta1 = 1.0", "less than 1"),
    ({"train_psnr": 3}, "train_psnr = 3", "names with values"),
    ({"train_psnr": None}, "train_psnr = None", "names with values"),
    ({"networks": {"sampler": "papre"}}, "networks.sampler = 'papre'", "'paper', 'released' or 'border'"),
    ({"register_model": {"name": ""}}, "register_model.name = ''", "at least 1 character"),
    ({"fetch_faces": {"drawn": {"photos": [4, "6"]}}}, "fetch_faces.drawn.photos.1 = '6'", "valid integer"),
    ({"fetch_faces": {"drawn": {"photos": [4, 5, 6]}}}, "fetch_faces.drawn.photos = [4, 5, 6]", "at most 2"),
    ({"fetch_faces": {"drawn": {"photos": 4}}}, "fetch_faces.drawn.photos = 4", "a list"),
    ({"fetch_faces": {"drawn": {"photos": [6, 4]}}}, "fetch_faces.drawn", "2 <= fewest <= most"),
    ({"fetch_faces": {"drawn": {"validation": 0.6, "test": 0.4}}}, "fetch_faces.drawn", "sum below 1"),
    ({"prepare_faces": {"validation": 0.6, "test": 0.4}}, "prepare_faces", "sum below 1"),
    ({"prepare_faces": {"crop": {"height": 100}}}, "prepare_faces.crop", "divisible by 8, not 100 x 144"),
    ({"prepare_faces": {"crop": {"width": 100}}}, "prepare_faces.crop", "divisible by 8, not 168 x 100"),
    ({"prepare_faces": {"min_images": 1}}, "prepare_faces.min_images = 1", "greater than or equal to 2"),
    ({"check_faces": {"images": {"train": 2.5}}}, "check_faces.images.train = 2.5", "valid integer"),
    ({"check_faces": {"images": 3}}, "check_faces.images = 3", "names with values"),
    ({"benchmark": {"splits": ["train"]}}, "benchmark.splits.0 = 'train'", "'validation' or 'test'"),
    ({"benchmark": {"splits": []}}, "benchmark.splits = []", "at least 1"),
    ({"benchmark": {"splits": "test"}}, "benchmark.splits = 'test'", "a list"),
    ({"train_adversarial": {"schedule": [3]}}, "train_adversarial.schedule.0 = 3", "names with values"),
    ({"train_adversarial": {"schedule": [{"epochs": 1.0}]}}, "train_adversarial.schedule.0.learning_rate", "required"),
    (
        {"train_adversarial": {"schedule": [{"epochs": 1.0, "learning_rate": "x"}]}},
        "train_adversarial.schedule.0.learning_rate = 'x'",
        "valid number",
    ),
    ({"runtime": {"device": "gpu"}}, "runtime.device = 'gpu'", "'auto', 'cpu' or 'cuda'"),
]


@pytest.mark.parametrize(("values", "name", "expected"), WRONG, ids=[case[1].strip("`") for case in WRONG])
@pytest.mark.parametrize("place", ["base", "chosen profile", "other profile"])
def test_a_wrong_param_stops_with_its_full_name_and_what_was_expected(load, values, name, expected, place):
    text = message(
        load,
        values if place == "base" else {},
        {
            "demo": values if place == "chosen profile" else {},
            "lfw": values if place == "other profile" else {},
        },
    )
    assert name in text
    assert expected in text
    assert f"profile `{'lfw' if place == 'other profile' else 'demo'}`" in text
    assert text.count("\n") <= 3  # the mistake, and the params that are missing for it


@pytest.mark.parametrize(("values", "name", "expected"), WRONG, ids=[case[1].strip("`") for case in WRONG])
def test_a_wrong_param_of_set_stops_with_its_full_name_and_what_was_expected(load, values, name, expected):
    path, value = [], values
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        path.append(key)
    text = json.dumps(value).replace("Infinity", ".inf").replace("NaN", ".nan")
    error = message(load, {}, None, None, (f"{'.'.join(path)}={text}",))
    assert name in error
    assert expected in error
    assert "--set" in error


def test_all_mistakes_of_a_profile_are_told_at_once(load):
    text = message(load, {"networks": {"width": "x"}, "train_psnr": {"patience": 0, "foo": 1}})
    for name in ("networks.width", "train_psnr.patience", "train_psnr.foo"):
        assert name in text


def test_a_mistake_in_the_base_is_found_though_every_profile_replaces_it(load):
    profiles: dict[str, Any] = {"demo": {"networks": {"width": 8}}, "lfw": {"networks": {"width": 9}}}
    assert "networks.width = 'x'" in message(load, {"networks": {"width": "x"}}, profiles)
    part = {"epochs": 1.0, "learning_rate": 1e-4}
    profiles = {"demo": {"train_adversarial": {"schedule": [part]}}}
    text = message(load, {"train_adversarial": {"schedule": [{"epoch": 1.0}]}}, profiles)
    assert "train_adversarial.schedule.0.epoch" in text


def test_a_mistake_in_the_file_is_found_though_set_replaces_it(load):
    text = message(load, {}, {"demo": {"networks": {"width": "x"}}}, None, ("networks.width=8",))
    assert "networks.width = 'x'" in text


@pytest.mark.parametrize("place", ["base", "demo", "lfw"])
def test_profile_inside_a_section_list_is_refused(load, place):
    values = {"profile": "other"}
    text = message(
        load, values if place == "base" else {}, {name: values if name == place else {} for name in ("demo", "lfw")}
    )
    assert f"`{'base' if place == 'base' else 'profiles.' + place}.profile`" in text


def test_set_does_not_choose_the_profile(load):
    assert "--profile NAME" in message(load, {}, None, None, ("profile=lfw",))


@pytest.mark.parametrize("text", ["train_psnr.epochs", "=3", "", " =3"])
def test_set_without_name_or_value_shows_how_it_reads(load, text):
    error = message(load, {}, None, None, (text,))
    assert "section.key=value" in error
    assert repr(text) in error


def test_set_with_broken_yaml_names_the_override(load):
    assert "train_psnr.epochs=[" in message(load, {}, None, None, ("train_psnr.epochs=[",))


def test_set_reads_yaml_so_that_lists_and_mappings_work_and_blanks_do_not_matter(load):
    sets = (
        "train_adversarial.schedule=[{epochs: 1, learning_rate: 1e-3}]",
        "check_faces.images.test = 3",
        "benchmark.max_faces=null",
        "networks={width: 8}",
    )
    params = load({"benchmark": {"max_faces": 9}, "networks": {"warp_blocks": 3}}, None, None, sets)
    assert [part.model_dump() for part in params.train_adversarial.schedule] == [{"epochs": 1.0, "learning_rate": 1e-3}]
    assert params.check_faces.images == {"test": 3}
    assert params.benchmark.max_faces is None
    assert (params.networks.width, params.networks.warp_blocks) == (8, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must hold `profile`, `base` and `profiles`"),
        ("- 3", "must hold `profile`, `base` and `profiles`"),
        ("a: [", "not valid YAML"),
        ("profile: demo\nprofile: lfw\nprofiles: {demo: {}}", "duplicate key"),
        ("profile: demo\nprofiles: {demo: {networks: !!python/object:os.system {}}}", "not valid YAML"),
        ("profile: demo\nprofiles: {demo: {}}\nbsae: {}", "unknown param `bsae`"),
        ("profile: demo\nprofiles: {demo: {}}\n3: 4\nx: 5", "unknown param `3`"),
        ("profile: demo\nprofiles: [demo]", "`profiles` must hold names"),
        ("profile: demo\nprofiles: demo", "`profiles` must hold names"),
        ("profile: demo\nprofiles: {demo: 3}", "`profiles.demo` must hold names"),
        ("profile: demo\nprofiles: {demo: []}", "`profiles.demo` must hold names"),
        ("profile: demo\nbase: []\nprofiles: {demo: {}}", "`base` must hold names"),
        ("profile: demo\nbase: no\nprofiles: {demo: {}}", "`base` must hold names"),
        ("profile: demo\nprofiles: {demo: {3: 3}}", "the name `3` must be text"),
        ("profile: demo\nprofiles: {demo: {}, 3: {}}", "the name `3` must be text"),
        ("profile: demo\nprofiles: {demo: {}, a/b: {}}", "a/b"),
        ("profile: demo\nprofiles:", "there is no profile `demo`; it has none"),
        ("profile: lwf\nprofiles: {demo: {}, lfw: {}}", "there is no profile `lwf`; it has demo, lfw"),
        ("profile: [demo]\nprofiles: {demo: {}}", "there is no profile `['demo']`"),
        ("profile: {demo: 1}\nprofiles: {demo: {}}", "there is no profile"),
        ("profile: 3\nprofiles: {demo: {}}", "there is no profile `3`"),
        ("profiles: {demo: {}}", "there is no profile `None`; it has demo"),
    ],
)
def test_a_file_of_the_wrong_shape_is_told_with_its_path(tmp_path, text, expected):
    error = message(load_text, tmp_path, text)
    assert expected in error
    assert str(tmp_path / "params.yaml") in error


def test_a_file_that_is_absent_a_directory_or_not_text_says_what_to_do(tmp_path):
    assert "give --params FILE" in message(load_params, tmp_path / "absent.yaml")
    assert "give --params FILE" in message(load_params, tmp_path)
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not valid YAML" in message(load_params, tmp_path / "params.yaml")


def test_params_cannot_be_changed_after_they_were_checked():
    params = Params(profile="x")
    with pytest.raises(ValueError, match="frozen"):
        params.networks.width = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        params.profile = "y"  # type: ignore[misc]


def test_empty_sections_of_the_file_are_allowed(tmp_path):
    assert load_text(tmp_path, "profile: demo\nbase:\nprofiles:\n  demo:\n") == Params(profile="demo")


# ---------------------------------------------------------------- YAML


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.0e-4", "0.0001", "1.e-4"])
def test_numbers_are_read_by_yaml_1_2(tmp_path, text):
    file = f"profile: demo\nprofiles: {{demo: {{train_psnr: {{learning_rate: {text}}}}}}}"
    assert load_text(tmp_path, file).train_psnr.learning_rate == 1e-4


@pytest.mark.parametrize(
    "text", ["{train_psnr: {horizontal_flip: yes}}", "{train_psnr: {seed: 1:30}}", "{networks: {zero_flow: off}}"]
)
def test_what_only_yaml_1_1_calls_a_boolean_or_a_number_is_refused_as_text(tmp_path, text):
    assert "valid" in message(load_text, tmp_path, f"profile: demo\nprofiles: {{demo: {text}}}")


def test_a_profile_named_no_is_text(tmp_path):
    assert load_text(tmp_path, "profile: no\nprofiles: {no: {}}").profile == "no"


def test_a_whole_number_stands_for_a_real_one(load):
    whole, real = load({"train_psnr": {"epochs": 4}}), load({"train_psnr": {"epochs": 4.0}})
    assert isinstance(whole.train_psnr.epochs, float)
    assert whole == real
    assert whole.digest() == real.digest()


# ---------------------------------------------------------------- digest and flat names


def test_the_digest_is_of_the_values_alone_so_that_it_is_the_same_in_every_process():
    # a change of the rule would cut off all earlier runs
    written = b'{"register_model": {"name": "gwainet", "variant": "gwainet"}}'
    assert Params(profile="x").digest(["register_model"]) == hashlib.sha256(written).hexdigest()[:12]


@pytest.mark.parametrize("section", SHAPING)
def test_the_digest_feels_each_section_that_shapes_a_result(section):
    plain, changed = Params(profile="x"), check_params({"profile": "x", section: CHANGES[section]})
    assert plain.digest() != changed.digest()
    assert plain.digest([section]) != changed.digest([section])
    others = [name for name in SECTIONS if name != section]
    assert plain.digest(others) == changed.digest(others)


def test_the_digest_feels_the_profile_but_not_how_a_stage_is_run():
    plain = Params(profile="x")
    assert plain.digest() != Params(profile="y").digest()
    for name, value in {"device": "cpu", "threads": 3, "workers": 5, "fold": "off", "checkpoint_seconds": 1.0}.items():
        assert check_params({"profile": "x", "runtime": {name: value}}).digest() == plain.digest()


def test_the_digest_does_not_feel_what_a_promotion_asks_for():
    asked = {"primary": "ssim", "least_gain": 0.5, "largest_loss": {"ssim": 0.1}, "seed": 7}
    assert check_params({"profile": "x", "promotion": asked}).digest() == Params(profile="x").digest()


def test_the_digest_does_not_depend_on_the_order_of_names_or_sections(tmp_path):
    first = "{networks: {width: 8, warp_blocks: 2}, check_faces: {images: {train: 3, test: 4}}}"
    second = "{check_faces: {images: {test: 4, train: 3}}, networks: {warp_blocks: 2, width: 8}}"
    one, two = (load_text(tmp_path, f"profile: demo\nprofiles: {{demo: {text}}}") for text in (first, second))
    assert one.digest() == two.digest()
    assert one.digest(["networks", "check_faces"]) == one.digest(["check_faces", "networks"])


def test_the_digest_feels_the_order_of_a_schedule():
    parts = [{"epochs": 1.0, "learning_rate": 0.1}, {"epochs": 2.0, "learning_rate": 0.2}]
    one, two = ({"profile": "x", "train_adversarial": {"schedule": p}} for p in (parts, parts[::-1]))
    assert check_params(one).digest() != check_params(two).digest()


def test_flat_names_are_dotted_reach_every_value_and_keep_to_the_asked_sections():
    params = check_params({"profile": "x", "check_faces": {"images": {"train": 5}}})
    flat = params.flat()
    assert flat["profile"] == "x"
    assert flat["train_psnr.learning_rate"] == 1e-4
    assert flat["prepare_faces.crop.top"] == 25
    assert flat["fetch_faces.drawn.photos"] == [4, 6]
    assert flat["check_faces.images.train"] == 5
    assert not any(isinstance(value, dict) for value in flat.values())
    json.dumps(flat)
    assert {name.split(".")[0] for name in flat} == {"profile", *SECTIONS}
    some = params.flat(["networks", "train_psnr"])
    assert some == {k: v for k, v in flat.items() if k.startswith(("networks.", "train_psnr."))}


@pytest.mark.parametrize("section", SECTIONS)
def test_flat_names_rebuild_the_params(load, section):
    changed = check_params({"profile": "demo", section: CHANGES[section]})
    sets = [f"{name}={json.dumps(value)}" for name, value in changed.flat().items() if name != "profile"]
    assert load({}, None, None, tuple(sets)) == changed


def test_every_param_has_a_section_of_a_stage():
    of_stages = {section for stage in STAGES.values() for section in stage.sections}
    assert set(SECTIONS) == of_stages | {"promotion", "runtime", "search_rates"}


# ---------------------------------------------------------------- the paper


@pytest.fixture(scope="module")
def real() -> dict[str, Params]:
    path = PROJECT / "params.yaml"
    return {name: load_params(path, name) for name in YAML(typ="safe").load(path)["profiles"]}


def test_the_profile_celeba_has_every_number_of_section_4_2(real):
    params = real["celeba"]
    warper, psnr, adversarial = params.pretrain_wnet, params.train_psnr, params.train_adversarial
    assert (warper.learning_rate, warper.epochs, warper.batch_size) == (1e-4, 1.25, 4)
    assert (psnr.learning_rate, psnr.batch_size) == (1e-4, 16)
    assert [(part.epochs, part.learning_rate) for part in adversarial.schedule] == [(4, 1e-4), (2, 5e-5)]
    assert adversarial.batch_size == 4
    assert (adversarial.lambda_adv, adversarial.lambda_id, adversarial.lambda_gp) == (1e-3, 0, 10)
    assert params.pretrain_inet.epochs == 0  # the identity loss is not used
    assert params.register_model.variant == "gwanet"


def test_the_profile_pairs_has_every_number_of_section_4_2(real):
    params = real["pairs"]
    inet, psnr, adversarial = params.pretrain_inet, params.train_psnr, params.train_adversarial
    assert params.pretrain_wnet.epochs == 0  # two steps, none of them for the warper alone
    assert (psnr.learning_rate, psnr.batch_size) == (1e-4, 48)
    assert [(part.epochs, part.learning_rate) for part in adversarial.schedule] == [(8, 1e-4)]
    assert adversarial.batch_size == 16
    assert (adversarial.lambda_adv, adversarial.lambda_id, adversarial.lambda_gp) == (1e-3, 0.05, 10)
    assert (inet.learning_rate, inet.epochs, inet.batch_size) == (1e-4, 12, 8)
    assert params.register_model.variant == "gwainet"


@pytest.mark.parametrize("profile", ["celeba", "pairs", None])
def test_both_recipes_have_the_papers_optimiser_critic_and_networks(real, profile):
    params = Params(profile="defaults") if profile is None else real[profile]  # the defaults are paper mode too
    for stage in (params.pretrain_inet, params.pretrain_wnet, params.train_psnr):
        assert (stage.beta1, stage.beta2, stage.epsilon) == (0.9, 0.999, 1e-8)
    adversarial = params.train_adversarial
    assert not params.pretrain_wnet.horizontal_flip
    assert not params.train_psnr.horizontal_flip
    assert (adversarial.beta1, adversarial.beta2, adversarial.epsilon) == (0.5, 0.9, 1e-8)
    assert adversarial.critic_updates == 5
    assert not adversarial.horizontal_flip
    assert params.train_psnr.wnet_learning_rate_factor == 1
    networks = params.networks  # Sec. 3.2, Table 2
    assert not networks.zero_flow
    assert not networks.zero_fusion
    assert (networks.width, networks.blocks_per_group, networks.warp_blocks, networks.critic_width) == (64, 4, 8, 64)
    assert (networks.inet_width, networks.inet_features, networks.inet_layout) == (64, 4096, "vgg16")
    assert (networks.sampler, networks.zero_flow, networks.encoder_gain) == ("paper", False, "glorot")


def test_the_data_sets_are_those_of_section_4_1(real):
    celeba, pairs = real["celeba"], real["pairs"]
    assert celeba.check_faces.images == {"train": 162_734, "validation": 19_862, "test": 19_959}
    assert (celeba.prepare_faces.crop.height, celeba.prepare_faces.crop.width) == (168, 144)
    assert (celeba.prepare_faces.crop.top, celeba.prepare_faces.crop.left) == (25, 17)  # centred in 218 x 178
    assert (pairs.prepare_faces.crop.height, pairs.prepare_faces.crop.width) == (256, 256)
    assert (celeba.fetch_faces.source, pairs.fetch_faces.source) == ("celeba", "pairs")


def test_the_defaults_are_the_papers_without_the_file():
    defaults = Params(profile="x")
    assert (defaults.pretrain_wnet.epochs, defaults.pretrain_wnet.batch_size) == (1.25, 4)
    assert (defaults.pretrain_inet.epochs, defaults.pretrain_inet.batch_size) == (12, 8)
    assert defaults.train_psnr.batch_size == 16
    assert [(p.epochs, p.learning_rate) for p in defaults.train_adversarial.schedule] == [(4, 1e-4), (2, 5e-5)]


def test_the_chosen_profile_of_the_project_runs_without_anything_brought(real):
    assert load_params(PROJECT / "params.yaml").fetch_faces.source == "drawn"
    assert set(real) == {"demo", "lfw", "celeba", "pairs"}


def test_photos_of_drawn_people_must_be_more_alike_to_be_near_duplicates():
    settings = check_params({"profile": "x"}).prepare_faces
    assert (settings.near_duplicate_of("drawn"), settings.near_duplicate_of("celeba")) == (0.97, 0.85)
    given = check_params({"profile": "x", "prepare_faces": {"near_duplicate": 0.9}}).prepare_faces
    assert given.near_duplicate_of("drawn") == given.near_duplicate_of("folder") == 0.9


def test_celebas_lists_are_pinned():
    published = load_params(PROJECT / "params.yaml", "celeba").check_faces.published
    assert published is not None
    assert (published.photos, published.identities) == (202_599, 10_177)
    assert sum(published.partition.values()) == 202_599
    assert published.partition == {"train": 162_770, "validation": 19_867, "test": 19_962}


@pytest.mark.parametrize(
    ("psnr", "adversarial"),
    [
        ({}, {"more_seeds": [1]}),
        ({"more_seeds": [1]}, {"more_seeds": [1, 2]}),
        ({"more_seeds": [1, 2]}, {"seed": 1, "more_seeds": [2]}),
        ({"seed": 3, "more_seeds": [1]}, {"more_seeds": [1]}),
    ],
)
def test_seeds_of_the_adversarial_phase_that_nothing_would_be_there_for_are_refused_at_once(load, psnr, adversarial):
    with pytest.raises(ParamsError) as caught:
        load({"train_psnr": psnr, "train_adversarial": adversarial})
    message = str(caught.value)
    assert f"train_adversarial.more_seeds = {adversarial['more_seeds']}: each goes on from what train_psnr" in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("psnr", "adversarial"),
    [
        ({"more_seeds": [1, 2]}, {"more_seeds": [2, 1]}),
        ({"more_seeds": [1, 2, 3]}, {"more_seeds": [2]}),
        ({"more_seeds": [1]}, {}),
        ({}, {"seed": 5}),  # alone it goes on from whatever there is
        ({"seed": 3, "more_seeds": [0]}, {"seed": 3, "more_seeds": [0]}),
    ],
)
def test_seeds_of_the_adversarial_phase_are_those_of_the_psnr_phase_or_some_of_them(load, psnr, adversarial):
    load({"train_psnr": psnr, "train_adversarial": adversarial})
