"""Experiment files: load, override by flags, validate, and split what counts from what does not.

An experiment is a Python file with ``get_config(arg="")``. It starts from `base()`, which holds
every key there is with its default, and changes what the experiment is about::

    from facebench.config import base

    def get_config(arg=""):
        config = base()
        config.entry = "convnet-s"
        config.protocol = "landmarks/synthface/fractions@2"
        config.model.build = "convnet"
        config.train.steps = 400
        return config

Everything outside ``config.execution`` can change a number and is part of a trial's identity.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from facebench import digest
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.workspace import ENTRY

KINDS = ("entry", "baseline", "floor", "canary")

# Sections whose keys are keyword arguments of what their `build` names; checked when it is built.
OPEN_SECTIONS = ("model", "task", "probe")


def base() -> ConfigDict:
    """Every key of a config, with its default. The one place where defaults stand."""
    config = ConfigDict()
    config.entry = ""  # the name that is ranked: lower case letters, digits, . _ -
    config.kind = "entry"  # entry | baseline | floor: how the board marks the row
    config.protocol = ""  # TASK/DATASET/REGIME@VERSION

    # A backbone: a short name (facebench list models) or an import path, and its arguments;
    # model.weights = "weights/NAME-DIGEST.safetensors" to begin with stored ones (docs/weights.md).
    config.model = ConfigDict({"build": "convnet"})
    # Arguments of the protocol's task (head and loss).
    config.task = ConfigDict()
    # A closed-form fit instead of a trained network (facebench list probes); "" for none. It reads
    # pixels; with probe.features = "pooled" | "spatial" | "both" those of the frozen config.model.
    config.probe = ConfigDict({"build": ""})

    config.data = ConfigDict()
    config.data.batch_size = 64  # over all devices and accumulation steps
    config.data.images_per_unit = 0  # in a batch, where a loss compares images; 0: as they come
    config.data.augment = ConfigDict()
    config.data.augment.flip = 0.5  # probability of a mirror image
    config.data.augment.rotation = 0.0  # radians, uniform in +-
    config.data.augment.scale = 0.0  # 0.1: factor log-uniform in [1/1.1, 1.1]
    config.data.augment.shift = 0.0  # fraction of the crop's side, uniform in +-
    config.data.augment.brightness = 0.0  # 0.2: factor uniform in [0.8, 1.2]
    config.data.augment.contrast = 0.0
    config.data.augment.saturation = 0.0
    config.data.augment.grey = 0.0  # probability
    config.data.augment.blur = 0.0  # largest sigma, pixels
    config.data.augment.cutout = 0.0  # largest side of a grey square, fraction of the crop's

    config.train = ConfigDict()
    config.train.steps = 1000
    config.train.precision = "float32"  # of the backbone's arithmetic: float32 | bfloat16

    config.optim = ConfigDict()
    config.optim.name = "adamw"  # sgd | adamw | adagrad | lars
    config.optim.lr = 1e-3
    config.optim.schedule = "cosine"  # constant | linear | cosine | steps
    config.optim.warmup = 0  # steps of linear warm-up from 0
    config.optim.milestones = (0.5, 0.75)  # "steps": fractions of training where lr drops
    config.optim.gamma = 0.1  # "steps": the factor of each drop
    config.optim.final_lr = 0.0  # "linear", "cosine": the last lr as a fraction of lr
    config.optim.momentum = 0.9  # sgd, lars
    config.optim.nesterov = False  # sgd, lars
    config.optim.b1 = 0.9  # adamw
    config.optim.b2 = 0.999  # adamw
    config.optim.eps = 1e-8  # adamw, adagrad
    config.optim.weight_decay = 0.0  # on arrays of two or more axes only
    config.optim.clip_norm = 0.0  # of the global gradient; 0: off
    config.optim.layer_decay = 1.0  # lr factor per backbone layer below the last; 1: off
    config.optim.head_lr_factor = 1.0  # lr of all that is not the backbone, over the backbone's
    config.optim.accumulate = 1  # a batch is cut into so many parts, one after the other
    config.optim.ema = 0.0  # decay of the averaged weights that predict; 0: off

    config.execution = ConfigDict()  # changes no result
    config.execution.partition = "jit"  # jit (NamedSharding) | pmap
    config.execution.mesh = ConfigDict({"data": -1, "fsdp": 1, "model": 1})  # -1: what is left
    config.execution.threads = 2  # of the input pipeline
    config.execution.workers = 0  # processes of the input pipeline; 0: none
    config.execution.log_every = 50
    config.execution.checkpoint_every = 500
    config.execution.predict_batch_size = 128
    config.execution.tensorboard = True
    config.execution.compilation_cache = ""  # folder; "": JAX's own default
    return config


@dataclasses.dataclass(frozen=True)
class Config:
    """A loaded config as plain Python values, in its two halves.

    Attributes:
        semantic: everything that can change a number; part of a trial's identity.
        execution: where and how it runs; changes no result.
        source: the experiment file and its argument, as given.
    """

    semantic: dict[str, Any]
    execution: dict[str, Any]
    source: str = ""

    def __getitem__(self, key: str) -> Any:
        return self.execution if key == "execution" else self.semantic[key]

    @property
    def digest(self) -> str:
        """The digest of the semantic half."""
        return digest.of_json(self.semantic)


def _check_file(spec: str) -> None:
    file = Path(spec.split(".py:", 1)[0] + ".py" if ".py:" in spec else spec)
    if not file.is_file():
        there = [str(p) for p in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise UsageError(f"--config: {file}: no such file; {nearest(str(file), there)}")


def define_flag(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Defines ``--config=FILE[:ARG]`` with ``--config.KEY=VALUE`` overrides.

    Raises:
        UsageError: `argv` names a file that does not exist.
    """
    for i, word in enumerate(argv):
        if match := re.fullmatch(r"--?config(=(.*))?", word):
            _check_file(match.group(2) or "".join(argv[i + 1 : i + 2]))
    config_flags.DEFINE_config_file(
        "config",
        default=None,
        help_string="Experiment file, FILE[:ARG]; override with --config.KEY=VALUE.",
        flag_values=flag_values,
        sys_argv=list(argv),
    )


def file_of(flag_values: flags.FlagValues) -> str:
    """The experiment file that was given, with its argument."""
    flag: Any = flag_values["config"]
    return str(flag.config_filename)


def explain_parse_error(
    error: Exception, argv: Sequence[str], names: Iterable[str] = ()
) -> UsageError:
    """Says in one line what `config_flags` found wrong with the command line."""
    text = str(error)
    if isinstance(error, (AttributeError, KeyError)):
        missing = re.search(r"'(\w+)\\?'", text)
        name = missing.group(1) if missing else "?"
        spec = next((a.split("=", 1)[1] for a in argv if a.startswith("--config=")), "")
        given = [m.group(1) for a in argv if (m := re.match(r"--?(?:no)?config\.([^=]+)", a))]
        path = next((g for g in given if name in g.split(".")), name)
        if isinstance(error, KeyError) and path == name and name not in given:
            return UsageError(
                f"{spec}: get_config fails on {name!r}; is that the argument after the colon? The "
                "file's first lines name those that it takes"
            )
        parent = path.split(".")[: path.split(".").index(name)] if name in path.split(".") else []
        keys = _keys(_raw(spec), parent) if spec else []
        return UsageError(f"config has no key {path!r}: {nearest(name, keys)}")
    if unknown := re.search(r"Unknown command line flag '([^']+)'", text):
        return UsageError(f"no such flag: --{unknown.group(1)}; {nearest(unknown.group(1), names)}")
    if "Traceback (most recent call last)" in text:  # of the experiment file's own code
        places = re.findall(r'File "([^"]+)", line (\d+)', text)
        file, line = places[-1] if places else ("the experiment file", "?")
        return UsageError(f"{file}, line {line}: {text.strip().splitlines()[-1]}")
    return UsageError(text.strip())


def _raw(spec: str) -> ConfigDict | None:
    values = flags.FlagValues()
    try:
        define_flag(values, [""])
        values(["facebench", f"--config={spec}"])
        return values["config"].value
    except Exception:  # only used to word a message about another fault
        return None


def _keys(config: ConfigDict | None, path: Sequence[str]) -> list[str]:
    node: Any = config
    for part in path:
        node = node.get(part) if isinstance(node, ConfigDict) else None
    return list(node.keys()) if isinstance(node, ConfigDict) else []


def load(spec: str, overrides: Sequence[str] = ()) -> Config:
    """Loads an experiment file as the command line would.

    Args:
        spec: ``FILE`` or ``FILE:ARG``.
        overrides: ``"optim.lr=1e-3"`` and the like.

    Raises:
        UsageError: no such file, key, type or value.
        FacebenchError: the file itself fails.
    """
    argv = ["facebench", f"--config={spec}", *[f"--config.{o}" for o in overrides]]
    values = flags.FlagValues()
    define_flag(values, argv)
    try:
        values(argv)
    except (AttributeError, KeyError, OSError, flags.Error, ValueError) as error:
        raise explain_parse_error(error, argv) from error
    return finish(values["config"].value, spec)


def restore(semantic: Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """The config that a record holds, with the default execution.

    Args:
        semantic: the semantic half, as a record holds it: data, of which nothing is run.
        overrides: ``"optim.lr=1e-3"`` and the like.

    Raises:
        UsageError: an override names no key, or a value is out of its range.
        FacebenchError: this release has other keys, so that it would mean something else.
    """
    plain = _plain(base(), "")
    for key, value in semantic.items():
        if isinstance(plain.get(key), dict) and key not in OPEN_SECTIONS:
            plain[key].update(value)
        else:
            plain[key] = value
    wanted = digest.of_json(dict(semantic))
    if finish(ConfigDict(plain), "record").digest != wanted:
        raise FacebenchError(
            "the record's config does not have the keys of this release, so it would mean "
            "something else; run the release that the record's environment names"
        )
    for override in overrides:
        path, _, value = override.partition("=")
        *sections, key = path.split(".")
        node: Any = plain
        for section in sections:
            node = node.get(section) if isinstance(node, dict) else None
        if not isinstance(node, dict) or key not in node:
            raise UsageError(f"config has no key {path!r}: {nearest(key, node or plain)}")
        try:
            node[key] = json.loads(value)
        except json.JSONDecodeError:
            node[key] = value
    return finish(ConfigDict(plain), "record")


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, (ConfigDict, Mapping)):
        return {str(k): _plain(v, f"{path}.{k}" if path else str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{path}[{i}]") for i, v in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UsageError(
        f"config.{path} is a {type(value).__name__}; a config holds numbers, text, "
        "true / false, tuples and sections only"
    )


def _check_keys(found: Mapping[str, Any], known: Mapping[str, Any], path: str) -> None:
    for key, value in found.items():
        where = f"{path}.{key}" if path else key
        if key not in known:
            raise UsageError(f"config has no key {where!r}: {nearest(key, known)}")
        if where in OPEN_SECTIONS:
            if not isinstance(value, Mapping):
                raise UsageError(f"config.{where} must be a section, not {value!r}")
        elif isinstance(known[key], Mapping):
            if not isinstance(value, Mapping):
                raise UsageError(f"config.{where} must be a section, not {value!r}")
            _check_keys(value, known[key], where)


def _number(value: Mapping[str, Any], key: str, low: float, high: float, path: str) -> None:
    number = value[key]
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise UsageError(f"config.{path}.{key} must be a number, not {number!r}")
    if not low <= number <= high:
        raise UsageError(f"config.{path}.{key} is {number}; it must lie in [{low}, {high}]")


def _choice(value: Any, choices: Sequence[str], path: str) -> None:
    if value not in choices:
        raise UsageError(f"config.{path} is {value!r}: {nearest(str(value), choices)}")


def _check_weights(name: Any) -> None:
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UsageError(
            f"config.model.weights is {name!r}; it must be the path of a file in the workspace, "
            "from its folder on, such as 'weights/NAME-0123456789ab.safetensors'"
        )


def finish(config: ConfigDict, source: str = "") -> Config:
    """Validates a config and turns it into plain values.

    Raises:
        UsageError: an unknown key, or a value out of its range; the message names both.
    """
    if not isinstance(config, ConfigDict):
        raise FacebenchError(f"{source}: get_config() must return a ConfigDict (start from base())")
    plain = _plain(config, "")
    known = _plain(base(), "")
    _check_keys(plain, known, "")
    for key in known:
        if key not in plain:
            raise UsageError(f"config lacks {key!r}: start from facebench.config.base()")
        if isinstance(known[key], dict) and key not in OPEN_SECTIONS:
            for inner in known[key]:
                if inner not in plain[key]:
                    raise UsageError(f"config.{key} lacks {inner!r}: change keys, do not replace")
    if not isinstance(plain["entry"], str) or not ENTRY.fullmatch(plain["entry"]):
        raise UsageError(
            f"config.entry is {plain['entry']!r}; it must be 1 to 64 lower case letters, "
            "digits, '.', '_' or '-', such as 'convnet-s'"
        )
    if not plain["protocol"]:
        raise UsageError("config.protocol is empty; `facebench list protocols` names them")
    _choice(plain["kind"], KINDS, "kind")
    _choice(plain["train"]["precision"], ("float32", "bfloat16"), "train.precision")
    optim = plain["optim"]
    _choice(optim["name"], ("sgd", "adamw", "adagrad", "lars"), "optim.name")
    _choice(optim["schedule"], ("constant", "linear", "cosine", "steps"), "optim.schedule")
    infinite = float("inf")
    _number(plain["train"], "steps", 1, infinite, "train")
    _number(plain["data"], "batch_size", 1, infinite, "data")
    _number(plain["data"], "images_per_unit", 0, plain["data"]["batch_size"], "data")
    if not plain["data"]["images_per_unit"]:  # so that configs from before this key stay the same
        plain["data"].pop("images_per_unit")
    _number(optim, "accumulate", 1, plain["data"]["batch_size"], "optim")
    for key in ("lr", "warmup", "weight_decay", "clip_norm", "gamma", "final_lr", "head_lr_factor"):
        _number(optim, key, 0, infinite, "optim")
    if optim["head_lr_factor"] == 1:  # so that configs from before this key stay the same
        optim.pop("head_lr_factor")
    for key in ("momentum", "b1", "b2", "ema", "layer_decay"):
        _number(optim, key, 0, 1, "optim")
    _check_weights(plain["model"].get("weights", ""))
    execution = plain.pop("execution")
    _choice(execution["partition"], ("jit", "pmap"), "execution.partition")
    for key in ("log_every", "checkpoint_every", "predict_batch_size"):
        _number(execution, key, 1, infinite, "execution")
    for key in ("threads", "workers"):
        _number(execution, key, 0, 1024, "execution")
    if plain["probe"].get("build"):
        # A closed-form fit is named by its probe, and by the backbone that it reads: what it does
        # not read is left out.
        plain.pop("optim")
        train = plain.pop("train")
        if "features" in plain["probe"]:
            plain["train"] = {"precision": train["precision"]}
        else:
            plain.pop("model")
        plain["data"] = {"batch_size": plain["data"]["batch_size"]}
    else:
        plain.pop("probe")
    return Config(semantic=plain, execution=execution, source=source)
