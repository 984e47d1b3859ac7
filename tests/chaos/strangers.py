"""What a stranger may hand over: run folders, config directories and files that would run code,
remove something or carry a secret away, if they were read as more than data.

Each has a canary. `PAYLOAD` unpickled makes the file CANARY; `victim` is a folder that a call might
remove; the environment holds secrets that no file and no output may hold afterwards.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

SECRETS = {"SECRET": "tr0ub4dor-and-3", "WANDB_API_KEY": "0123456789abcdef" * 2 + "01234567"}


class Payload:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def payload(place: Path) -> bytes:
    return pickle.dumps(Payload(place / "CANARY"), protocol=2)


def overrides(folder: Path, *lines: str) -> None:
    """Put lines behind the overrides that a folder recorded."""
    path = folder / "overrides.yaml"
    quoted = ["- '" + line.replace("'", "''") + "'\n" for line in lines]
    path.write_text(path.read_text() + "".join(quoted))


def config(folder: Path, old: str, new: str) -> None:
    """Replace a piece of a folder's config.yaml, which must hold it."""
    path = folder / "config.yaml"
    text = path.read_text()
    assert old in text, f"{old} is not in {path}"
    path.write_text(text.replace(old, new, 1))


# Run folders: each is a copy of a good one, in `place`, with something done to it.


def replacing(folder: Path, group: str, node: str) -> None:
    """Overrides that put a node of their own in the place of a group."""
    overrides(folder, f"~{group}", f"+{group}={{{node}}}")


def gift(folder: Path, place: Path) -> None:
    """A loader that unpickles."""
    (folder / "notes.bin").write_bytes(payload(place))
    load = "diffgeo.pretrained.weights.torch.load"
    replacing(folder, "data", f"_target_: {load}, f: '${{run}}/notes.bin', weights_only: false")


def remover(folder: Path, place: Path) -> None:
    """A function of ours that removes a folder."""
    replacing(folder, "data", f"_target_: diffgeo.store.shards.remove, folder: {place / 'victim'}")


def writer(folder: Path, place: Path) -> None:
    """A function of ours that writes a file."""
    path = place / "CANARY"
    replacing(folder, "data", f"_target_: diffgeo.store.files.write_text, path: {path}, text: x")


def bomb(folder: Path, place: Path) -> None:
    """Aliases of aliases: nine levels of nine are a billion words."""
    lines = ['- &a0 ["x","x","x","x","x","x","x","x","x"]']
    for level in range(1, 9):
        lines.append(f"- &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    (folder / "overrides.yaml").write_text("\n".join(lines) + "\n")


def ring(folder: Path, place: Path) -> None:
    """A sampling whose run is its own folder."""
    shutil.rmtree(folder / "checkpoint")
    config(folder, "seed:", f"run: {folder}\nseed:")


def pair(folder: Path, place: Path) -> None:
    """Two folders that name each other as their run."""
    other = place / "other"
    shutil.rmtree(folder / "checkpoint")
    shutil.copytree(folder, other)
    config(folder, "seed:", f"run: {other}\nseed:")
    config(other, "seed:", f"run: {folder}\nseed:")


def secret(folder: Path, place: Path) -> None:
    """Resolvers that would write the reader's environment into the reader's files."""
    overrides(folder, "+note=${oc.env:SECRET}", "+other.key=a${oc.env:WANDB_API_KEY}")
    config(folder, "seed:", "note: ${oc.env:WANDB_API_KEY}\nseed:")


def hydras(folder: Path, place: Path) -> None:
    """Hydra's own settings: where it writes, what it searches, what it launches."""
    victim = place / "victim"
    overrides(folder, f"hydra.run.dir={victim}", f"hydra.searchpath=[file://{victim}]")
    overrides(folder, "hydra.job.chdir=true", "hydra/launcher=joblib", "hydra.verbose=true")
    overrides(folder, "+hydra.callbacks.x._target_=os.system")


def flags(folder: Path, place: Path) -> None:
    """Flags of the command line."""
    overrides(folder, f"--config-dir={place / 'victim'}", "--multirun", "-m", "--cfg", "job")


def instantiated(folder: Path, place: Path) -> None:
    """A config.yaml whose model builds something else, and no override that names a model."""
    words = (folder / "overrides.yaml").read_text().splitlines(keepends=True)
    (folder / "overrides.yaml").write_text("".join(w for w in words if "model=" not in w))
    config(
        folder,
        "model:\n",
        "model:\n  hidden:\n    _target_: diffgeo.store.files.os.system\n"
        f"    command: touch {place / 'CANARY'}\n"
        "  another:\n    _target_: diffgeo.store.shards.shutil.rmtree\n"
        f"    path: {place / 'victim'}\n",
    )


def partial(folder: Path, place: Path) -> None:
    """Hydra's own keys: arguments by place, nodes that are left alone, functions that wait."""
    path = place / "CANARY"
    node = f"_target_: diffgeo.store.files.os.mkdir, _args_: ['{path}'], _recursive_: false"
    replacing(folder, "data", node + ", _partial_: false, _convert_: all")


def python_tags(folder: Path, place: Path) -> None:
    """YAML that names Python objects."""
    evil = f"!!python/object/apply:os.system ['touch {place / 'CANARY'}']\n"
    (folder / "overrides.yaml").write_text(f"- {evil}")
    config(folder, "seed:", f"note: {evil}seed:")


def pickled(folder: Path, place: Path) -> None:
    """Pickles where arrays and tensors were."""
    objects = np.array([[Payload(place / "CANARY"), 1]], dtype=object)
    with open(folder / "samples.npy", "wb") as file:
        np.save(file, objects, allow_pickle=True)
    (folder / "checkpoint" / "model.safetensors").write_bytes(payload(place))
    (folder / "checkpoint" / "state.safetensors").write_bytes(payload(place))


def links(folder: Path, place: Path) -> None:
    """Names that lead out of the folder: what is written or removed there is the reader's."""
    victim = place / "victim"
    for name in ("provenance.json", "metrics.json", "samples.npy", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(victim / "precious.txt")
    (folder / "shards").symlink_to(victim)
    (folder / "figures").symlink_to(victim)


def text_of(folder: Path) -> str:
    return (folder / "config.yaml").read_text()


FOLDERS: dict[str, Callable[[Path, Path], None]] = {
    made.__name__: made
    for made in (
        gift,
        remover,
        writer,
        bomb,
        ring,
        pair,
        secret,
        hydras,
        flags,
        instantiated,
        partial,
        python_tags,
        pickled,
        links,
    )
}
LINES = (
    "sample run={folder} n=20 sampler.steps=3 metrics=quick figures=false hydra.run.dir=made",
    "evaluate run={folder} metrics=quick figures=false hydra.run.dir=made",
    "train resume={folder}",
    "theory admissibility run={folder} n=20 sampler.steps=3 figures=false hydra.run.dir=made",
    "compare {folder}",
)


# Config directories, each with the line that names it.


def group(folder: Path, place: Path) -> str:
    """A choice of a group that builds what is not ours."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "nice.yaml").write_text(
        f"_target_: os.system\ncommand: touch {place / 'CANARY'}\n"
    )
    return f"sample --config-dir {folder} model=exact data=nice n=20"


def primary(folder: Path, place: Path) -> str:
    """A primary config of its own, with a hook of Hydra's."""
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "defaults: [base, _self_]\nrun: null\nmodel:\n"
        f"  _target_: diffgeo.store.files.os.system\n  command: touch {place / 'CANARY'}\n"
    )
    return f"sample --config-dir {folder} --config-name mine n=20"


def search(folder: Path, place: Path) -> str:
    """A search path that leads on, to a group with our names in it."""
    (folder / "net").mkdir(parents=True)
    (folder / "net" / "nice.yaml").write_text(
        f"_target_: subprocess.getoutput\n_args_: ['touch {place / 'CANARY'}']\n"
    )
    return f"train hydra.searchpath=[file://{folder}] data=circle net=nice n=20"


DIRECTORIES = {made.__name__: made for made in (group, primary, search)}


# Files, each with the line that reads it.


def object_array(place: Path) -> str:
    np.save(place / "a.npy", np.array([[Payload(place / "CANARY")]], object), allow_pickle=True)
    return f"evaluate samples={place / 'a.npy'} data=circle"


def archive(place: Path) -> str:
    np.savez(place / "a.npz", a=np.array([[Payload(place / "CANARY")]], object))
    return f"sample model=exact data=circle noise={place / 'a.npz'}"


def checkpoint(place: Path) -> str:
    (place / "a.pt").write_bytes(payload(place))
    return f"sample model=ddim_checkpoint data=digits model.path={place / 'a.pt'} n=4"


def table(place: Path) -> str:
    (place / "a.csv").write_text(f"=cmd|'touch {place / 'CANARY'}'!A1,2\n1,2\n")
    return f"evaluate samples={place / 'a.csv'} data=circle"


def image(place: Path) -> str:
    (place / "pictures").mkdir()
    bounds = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"
    script = f"(%pipe%touch {place / 'CANARY'}) (w) file\n"
    (place / "pictures" / "a.png").write_text(bounds + script)
    return f"evaluate samples={place / 'pictures'} data=digits metrics=images_quick"


FILES = {made.__name__: made for made in (object_array, archive, checkpoint, table, image)}
