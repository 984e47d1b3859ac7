"""What a run folder or a config directory of somebody else's may do: choose and set. Each hostile
one carries a canary; that it stays alive is tested on whole commands in tests/chaos."""

import pytest
from omegaconf import OmegaConf

from diffgeo.config import offers
from diffgeo.config.build import build
from diffgeo.config.line import conf_dir, prepare, recorded
from diffgeo.config.strangers import check_directory, check_replayed, read_yaml, words_of
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.run import read_config, recorded_values
from diffgeo.sampler import Heun


@pytest.mark.parametrize(
    "slot, target",
    [
        # written well, and resolved to what is not ours
        ("data", "diffgeo.pretrained.weights.torch.load"),
        ("data", "diffgeo.data.pixels.os.remove"),
        ("model", "diffgeo.pretrained.weights.torch.load"),
        # ours, and no object of the slot's rooms
        ("data", "diffgeo.store.shards.remove"),
        ("sampler", "diffgeo.data.Circle"),
        ("logger", "diffgeo.store.files.write_text"),
        # ours and in the room, and it makes no object
        ("data", "diffgeo.data.sources.fetch"),
        ("data", "diffgeo.data.prepared.write"),
        # a module, a constant, a private name, another package
        ("data", "diffgeo.data"),
        ("data", "diffgeo.data.dino.STROKES"),
        ("metrics", "diffgeo.metrics.suite._x"),
        ("data", "diffgeo.__main__.main"),
        ("net", "torch.nn.Linear"),
        ("data", "os.system"),
    ],
)
def test_a_slot_takes_what_its_rooms_offer_and_nothing_else(slot, target):
    node = OmegaConf.create({slot: {"_target_": target, "_partial_": True}})[slot]
    with pytest.raises(
        UsageError, match=f"^{slot}._target_={target}.* is not offered here|there is no"
    ):
        build(node)


def test_a_nested_node_is_checked_as_its_slot_is():
    law = {"_target_": "diffgeo.store.shards.remove", "folder": "victim"}
    node = OmegaConf.create({"data": {"_target_": "diffgeo.data.make", "law": law}}).data
    with pytest.raises(UsageError, match="data.law._target_=diffgeo.store.shards.remove"):
        build(node)


def test_what_a_slot_has_built_is_of_its_protocol():
    node = OmegaConf.create({"sampler": {"_target_": "diffgeo.schedule.VP"}}).sampler
    with pytest.raises(UsageError, match="makes no sampler"):
        build(node)
    assert (
        build(OmegaConf.create({"sampler": {"_target_": "diffgeo.sampler.Heun"}}).sampler) == Heun()
    )


def test_a_logger_writes_where_the_run_is_and_takes_no_positional_arguments(tmp_path):
    whole = {"_target_": "diffgeo.store.logger.Jsonl", "folder": str(tmp_path)}
    with pytest.raises(UsageError, match="_partial_: true"):
        build(OmegaConf.create({"logger": whole}).logger)
    placed = {"_target_": "diffgeo.sampler.Heun", "_args_": [1]}
    with pytest.raises(UsageError, match="_args_"):
        build(OmegaConf.create({"sampler": placed}).sampler)
    assert list(tmp_path.iterdir()) == []


def named(value):
    """Every node with a `_target_` in a plain value, as {place in it: the node}."""
    found = {}
    if isinstance(value, dict):
        if isinstance(value.get("_target_"), str):
            found[()] = value
        for key, child in value.items():
            found |= {(key, *place): node for place, node in named(child).items()}
    if isinstance(value, list):
        for child in value:
            found |= {("0", *place): node for place, node in named(child).items()}
    return found


def test_every_target_of_our_own_configs_is_offered():
    checked = 0
    for path in sorted(conf_dir().rglob("*.yaml")):
        group = path.relative_to(conf_dir()).parts[0]
        slot = "figure" if group == "reproduce" else group
        for place, node in named(read_yaml(path)).items():
            inside = place[0] if place and place[0] in offers.SLOTS else slot
            if inside not in offers.SLOTS:
                continue
            root = OmegaConf.create({inside: {"at": {"_target_": node["_target_"]}}})
            offers.check_target(root[inside]["at"])
            checked += 1
    assert checked > 200


PLAIN = ["data=curve", "n=5", "experiment=digits", "+data.limit=10", "++trainer.lr=1e-3"]
PLAIN += ["schedule@sampler.schedule=vp", "data.points=[[1,2],[3,4]]", "data.file='a b, c.npy'"]
PLAIN += ["model.sigma_data=${sigma_data}", "label=null", "hydra_free.x=1"]


def test_choices_and_plain_values_are_replayed(tmp_path):
    check_replayed(tmp_path, PLAIN)


@pytest.mark.parametrize(
    "word, reason",
    [
        ("~data", "deletes"),
        ("+data={_target_: diffgeo.data.make}", "is a dictionary"),
        ("data.points=[{a: 1}]", "is a dictionary"),
        ("data._target_=diffgeo.data.make", "names what is to be built"),
        ("+data.law._partial_=false", "names what is to be built"),
        ("hydra.run.dir=elsewhere", "is an option of Hydra's"),
        ("hydra/launcher=joblib", "is an option of Hydra's"),
        ("data@hydra.callbacks=curve", "is an option of Hydra's"),
        ("hydra.searchpath=[file://x]", "is an option of Hydra's"),
        ("logger.name='${oc.env:SECRET}'", "asks a resolver"),
        ("logger.name='${x.${oc.env:SECRET}}'", "asks a resolver"),
        ("n=1,2", "sweeps"),
        ("n=range(3)", "sweeps"),
        ("--config-dir=x", "is no override"),
        ("-m", "is no override"),
        ("n", "is no override"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, word, reason):
    with pytest.raises(UsageError) as refused:
        check_replayed(tmp_path / "overrides.yaml", [*PLAIN, word])
    assert f"overrides.yaml: {word!r} {reason}" in str(refused.value)


def run_folder(path, words, config="# diffgeo 0.1.0\nseed: 0\n"):
    path.mkdir()
    (path / "overrides.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(words)))
    (path / "config.yaml").write_text(config)
    return str(path)


def test_what_the_line_says_again_is_not_taken_from_the_folder(tmp_path):
    folder = run_folder(tmp_path / "run", ["data=curve", "+metrics.x={_target_: a}", "~label"])
    line = ["+metrics.x={_target_: b}", "~label"]
    assert recorded(folder, line, "run") == ["data=curve"]
    with pytest.raises(UsageError, match="~label"):
        recorded(folder, line[:1], "run")


def test_a_choice_does_not_lead_out_of_the_config_folder(tmp_path):
    folder = run_folder(tmp_path / "run", ["experiment=../../evil"])
    with pytest.raises(UsageError, match="a choice is a name in conf/experiment"):
        recorded(folder, [], "run")
    with pytest.raises(UsageError, match="there is no data=../evil"):
        prepare("sample", ["model=exact", "data=../evil"])


BOMB = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))]
)


@pytest.mark.parametrize(
    "text, says",
    [
        (BOMB, "has aliases"),
        ("[" * 1000 + "]" * 1000, "deep"),
        ("- " + "x" * (1 << 18), "bytes"),
        ("- !!python/object/apply:os.system [touch x]", "python/object"),
        ("- [", "damaged"),
        ("a: 1", "no list of overrides"),
        ("- 3", "no list of overrides"),
        ("\x00", "damaged"),
    ],
    ids=range(8),
)
def test_an_overrides_file_is_a_small_list_of_words(tmp_path, text, says):
    file = tmp_path / "overrides.yaml"
    file.write_text(text)
    with pytest.raises(DiffgeoError, match=says):
        words_of(file)


def test_bytes_that_are_no_text_and_a_folder_are_said(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes(b"\xff\xfe\x00a")
    for path in (file, tmp_path):
        with pytest.raises(DiffgeoError, match="damaged|no config"):
            read_yaml(path)


@pytest.mark.parametrize("backslashes", range(5))
def test_a_resolver_in_a_config_is_not_followed(tmp_path, monkeypatch, backslashes):
    monkeypatch.setenv("SECRET", "hush")
    text = "\\" * backslashes + "${oc.env:SECRET}-${x.${oc.env:SECRET}}"
    run_folder(tmp_path / "run", [], f"# diffgeo 0.1.0\nlogger:\n  name: {text}\n")
    found = read_config(tmp_path / "run")
    assert "hush" not in found.logger.name and "${oc.env:SECRET}" in found.logger.name
    again = recorded_values(found)["logger"]["name"]
    assert "hush" not in again and "${oc.env:SECRET}" in again


def test_a_resolver_is_recorded_as_it_was_typed_and_the_rest_resolved(monkeypatch):
    monkeypatch.setenv("SECRET", "hush")
    config = OmegaConf.create(
        {
            "sigma_data": 0.5,
            "model": {"sigma_data": "${sigma_data}"},
            "logger": {"name": "${oc.env:SECRET}", "tags": ["a", "${oc.env:SECRET}-b"]},
            "again": "${logger.name}",
        }
    )
    assert recorded_values(config) == {
        "sigma_data": 0.5,
        "model": {"sigma_data": 0.5},
        "logger": {"name": "${oc.env:SECRET}", "tags": ["a", "${oc.env:SECRET}-b"]},
        "again": "${oc.env:SECRET}",
    }


@pytest.mark.parametrize(
    "name, text",
    [
        ("experiment/x.yaml", "# @package _global_\nhydra:\n  callbacks: {}\n"),
        ("data/x.yaml", "# @package hydra.callbacks\nx: {_target_: os.system}\n"),
        ("data/x.yaml", "hydra.callbacks: {}\n"),
        ("train.yaml", "defaults:\n  - base\n  - override hydra/job_logging: colorlog\n"),
        ("train.yaml", "defaults:\n  - /data@hydra.callbacks: x\n"),
        ("hydra/job_logging/x.yaml", "version: 1\n"),
        ("data/x.yml", "name: ${oc.env:SECRET}\n"),
    ],
)
def test_a_config_directory_has_no_say_over_hydra_and_resolves_nothing(tmp_path, name, text):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/fine.yaml").write_text("defaults:\n  - curve\n  - _self_\nambient: 3\n")
    check_directory(tmp_path)
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    with pytest.raises(UsageError, match="Hydra|resolver"):
        check_directory(tmp_path)
    with pytest.raises(UsageError, match="Hydra|resolver"):
        prepare("train", ["--config-dir", str(tmp_path), "data=x"])
    with pytest.raises(UsageError, match="Hydra|resolver"):
        prepare("train", [f"-cd={tmp_path}", "data=x"])
    with pytest.raises(UsageError, match="Hydra|resolver"):
        prepare("train", [f"hydra.searchpath=[file://{tmp_path}]", "data=x"])


@pytest.mark.parametrize("flag", ["--experimental-rerun", "--config-d", "--exp=x.pickle", "-z"])
def test_a_flag_is_one_of_hydras_written_in_full(flag):
    with pytest.raises(UsageError, match="there is no flag"):
        prepare("train", [flag, "x"])


def test_a_sweep_s_own_functions_choose_schedules_too():
    line = prepare("sample", ["-m", "sampler.schedule=choice(karras,edm)"])
    assert "schedule@sampler.schedule=choice(karras,edm)" in line


@pytest.mark.parametrize("word", ["+nosuch=1", "++nosuch.inner=1", "+nosuch@data=curve"])
def test_what_nothing_will_look_at_is_not_added(word):
    with pytest.raises(UsageError, match="there is no option nosuch"):
        prepare("train", [word])


def test_groups_options_and_what_is_inside_a_node_may_be_added():
    line = ["+data.limit=3", "+experiment=digits", "++n=5", "+max_seconds=3", "+hydra.job.num=1"]
    assert prepare("train", line) == line
