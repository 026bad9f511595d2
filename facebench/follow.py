"""The verbs that follow a record: rescore, explain, diff, reproduce. Flags in, an exit code out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from facebench.errors import UsageError, nearest
from facebench.verb import Values, Verb, common, expect, value_of, workspace

if TYPE_CHECKING:
    from facebench.explain.question import Question
    from facebench.explain.shelf import Shelf
    from facebench.workspace import Workspace

RESCORE = "rescore RECORD ... | PROTOCOL [ENTRY] | --all"
EXPLAIN = "explain PROTOCOL [ENTRY] [METRIC] [REGIME] | RECORD [METRIC] [REGIME] [--group=FIELD]"
DIFF = "diff RECORD_A RECORD_B | PROTOCOL ENTRY_A ENTRY_B [--metric=M] [--regime=R]"
REPRODUCE = "reproduce RECORD [--trial=VALUE/SEED,..] [--rule=RULE] [--measure=N] [--attest]"


def _rescore_flags(values: Values, argv: Sequence[str]) -> None:
    common(values)
    flags.DEFINE_bool("all", False, "Rescore every record.", values)


def _records(ws: Workspace, args: Sequence[str]) -> list[Path]:
    """The records that words name: files, first digits of ids, or a protocol and an entry of it."""
    from facebench import leaderboard
    from facebench.explain import shelf

    first = shelf.find_record(ws, args[0])
    if first is not None:
        found = [first]
        for name in args[1:]:
            if (path := shelf.find_record(ws, name)) is None:
                raise UsageError(f"{name}: expected a record's file or the first digits of its id")
            found.append(path)
        return found
    expect(list(args), 1, 2, RESCORE)
    of, entry = shelf.find_protocol(ws, args[0]), "".join(args[1:])
    paths = [path for path in leaderboard.record_paths(ws) if path.parent.parent == ws.records / of]
    if entry and (known := sorted({path.parent.name for path in paths})):
        paths = [path for path in paths if path.parent.name == entry]
        if not paths:
            raise UsageError(f"{of} has no entry {entry!r}: {nearest(entry, known)}")
    if not paths:
        raise UsageError(f"{of} has no record")
    return paths


def _rescore(values: Values, args: list[str]) -> int:
    from facebench import leaderboard
    from facebench.leaderboard.judge import MissingTargetsError
    from facebench.leaderboard.store import UnreachableError

    space = workspace(values)
    if bool(args) == value_of(values, "all"):
        raise UsageError(f"give records, a protocol, or --all; usage: facebench {RESCORE}")
    paths = _records(space, args) if args else leaderboard.record_paths(space)
    wrong, skipped = 0, {"labels": 0, "predictions": 0}
    for path in paths:
        try:
            differences = leaderboard.rescore(space, path)
        except (MissingTargetsError, UnreachableError) as error:
            if not value_of(values, "all"):
                raise
            labels = isinstance(error, MissingTargetsError)
            skipped["labels" if labels else "predictions"] += 1
            print(f"no labels here: {error}" if labels else f"{error}")
            continue
        wrong += bool(differences)
        print(f"{'DIFFERS' if differences else 'equal  '} {space.relative(path)}")
        for line in differences:
            print(f"        {line}")
    without = [
        f", {n} could not be rescored: their {what} are not here"
        for what, n in skipped.items()
        if n
    ]
    print(f"{len(paths)} records, {wrong} differ{''.join(without)}")
    return 1 if wrong else 0


def _question_flags(values: Values) -> None:
    flags.DEFINE_string("metric", None, "Any metric of the task, such as fr@8.", values)
    flags.DEFINE_string("convention", None, "Of the task, such as 68-inter-pupil.", values)
    flags.DEFINE_string("regime", None, "0.1, 10%, 5, full; default: the largest.", values)
    flags.DEFINE_bool("json", False, "Print JSON.", values)


def _explain_flags(values: Values, argv: Sequence[str]) -> None:
    common(values)
    _question_flags(values)
    flags.DEFINE_string(
        "group", None, "An array of the labels, or FILE.npy with a value per test sample.", values
    )
    flags.DEFINE_bool("experiment", False, "Print the experiment file of the record.", values)


def _asked(values: Values, words: Sequence[str]) -> tuple[str | None, str | None]:
    """The metric and the regime value that flags or words name."""
    from facebench.explain import shelf

    found = {"metric": value_of(values, "metric"), "regime": value_of(values, "regime")}
    for word in words:
        name = "regime" if shelf.is_value(word) else "metric"
        if found[name] not in (None, word):
            raise UsageError(f"two of the same: --{name}={found[name]} and {word!r}")
        found[name] = word
    return found["metric"], found["regime"]


def _question(values: Values, of: Shelf, metric: str | None) -> Question:
    from facebench.explain import question

    return question.ask(of.protocol, metric, value_of(values, "convention"))


def _explain(values: Values, args: list[str]) -> int:
    from facebench import explain
    from facebench.explain import recipe, shelf, text

    first, *words = expect(args, 1, 4, EXPLAIN)
    ws = workspace(values)
    path, entry = shelf.find_record(ws, first), None
    if path is not None:
        said = _read(ws, path)
        of = shelf.Shelf(ws, said["protocol"]["id"])
        entry = of.alone(path.relative_to(ws.root).as_posix())
    else:
        of = shelf.Shelf(ws, shelf.find_protocol(ws, first))
        if words:
            entry = of.entry(words[0])
            words = words[1:]
    metric, regime = _asked(values, words)
    if value_of(values, "experiment"):
        if entry is None:
            raise UsageError(f"--experiment needs an entry or a record; usage: facebench {EXPLAIN}")
        record = of.records[entry.records[0]]
        print(recipe.experiment(record["config"]["semantic"], record["record_id"]), end="")
        return 0
    asked, field = _question(values, of, metric), value_of(values, "group")
    value = None if regime is None else shelf.find_value(of.protocol, regime)
    if entry is None:
        found = explain.table(of, asked, value, field)
        shown = text.table
    else:
        largest = max(trial.value for trial in entry.trials.values())
        found = explain.cell(of, entry, asked, largest if value is None else value, field)
        shown = text.cell
    print(text.as_json(found) if value_of(values, "json") else shown(of.protocol, found))
    return 0


def _read(ws: Any, path: Path) -> dict[str, Any]:
    from facebench.leaderboard import record

    return record.read(ws, path)


def _diff_flags(values: Values, argv: Sequence[str]) -> None:
    common(values)
    _question_flags(values)


def _diff(values: Values, args: list[str]) -> int:
    from facebench import diff
    from facebench.explain import shelf, text

    expect(args, 2, 3, DIFF)
    ws = workspace(values)
    if len(args) == 3:
        of = shelf.Shelf(ws, shelf.find_protocol(ws, args[0]))
        if args[1] == args[2]:
            raise UsageError(f"{args[1]!r} twice: give two entries, or the paths of two records")
        sides = [of.entry(name) for name in args[1:]]
    else:
        of, sides = diff.records(ws, *args)
    metric, regime = _asked(values, [])
    value = None if regime is None else shelf.find_value(of.protocol, regime)
    found = diff.compare(of, sides[0], sides[1], _question(values, of, metric), value)
    print(text.as_json(found) if value_of(values, "json") else diff.text(of.protocol, found))
    return 0


def _reproduce_flags(values: Values, argv: Sequence[str]) -> None:
    common(values)
    flags.DEFINE_list("trial", [], "Trials as VALUE/SEED; default: the first.", flag_values=values)
    flags.DEFINE_string("rule", "auto", "auto, bitwise or statistical.", values)
    flags.DEFINE_list(
        "with", [], "Config changes, such as optim.lr=2e-3: does it notice?", flag_values=values
    )
    flags.DEFINE_integer(
        "measure", None, "Run N times in ways that change rounding alone: the floor.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool("attest", False, "Write down that it was reproduced, to commit.", values)


def _reproduce(values: Values, args: list[str]) -> int:
    from facebench import protocol, reproduce
    from facebench.explain import shelf

    (name,) = expect(args, 1, 1, REPRODUCE)
    ws = workspace(values)
    path = shelf.find_record(ws, name)
    if path is None:
        raise UsageError(f"{name}: expected a record's file or the first six digits of its id")
    keys, changes = value_of(values, "trial"), value_of(values, "with")
    of = protocol.load(ws, _read(ws, path)["protocol"]["id"])
    if (n := value_of(values, "measure")) is not None:
        from facebench import tolerance

        if changes or value_of(values, "rule") != "auto":
            raise UsageError("--measure runs the record as it is: leave out --with and --rule")
        runs = tolerance.measure(ws, path, n, keys)
        print(tolerance.text(of, runs))
        return 3 if any(run.outcome is None for run in runs) else 0
    from facebench.train.loop import Interrupted

    try:
        outcomes = reproduce.reproduce(
            ws, path, keys, value_of(values, "rule"), changes, value_of(values, "attest")
        )
    except Interrupted as stop:
        print(f"{stop}; nothing of it is kept", flush=True)
        return stop.exit_code
    print(reproduce.text(of, outcomes))
    if any(isinstance(outcome, reproduce.Failed) for outcome in outcomes):
        return 3
    return 0 if all(outcome.passed for outcome in outcomes) else 1


VERBS = {
    "rescore": Verb(
        "recompute a record's numbers from its predictions", RESCORE, _rescore_flags, _rescore
    ),
    "explain": Verb("all that is behind a number of a board", EXPLAIN, _explain_flags, _explain),
    "diff": Verb("two records of one protocol, side by side", DIFF, _diff_flags, _diff),
    "reproduce": Verb(
        "train a record's trials again and compare", REPRODUCE, _reproduce_flags, _reproduce
    ),
}
