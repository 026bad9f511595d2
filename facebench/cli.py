"""The verbs: absl flags in, an exit code out. What a verb does stands in its room.

Exit codes: 0 clean, 1 error, 2 usage, 3 some trials failed, 128 + n stopped by signal n (the run
is saved and goes on with the same command).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from facebench import follow
from facebench.convert import verb as conversion
from facebench.errors import FacebenchError, UsageError, nearest
from facebench.interpret import verb as interpretation
from facebench.verb import Values, Verb
from facebench.verb import common as _common
from facebench.verb import expect as _expect
from facebench.verb import value_of as _value
from facebench.verb import workspace as _workspace

# -- run ------------------------------------------------------------------------------------------


def _run_flags(values: Values, argv: Sequence[str]) -> None:
    from facebench import config

    _common(values)
    config.define_flag(values, argv)
    flags.DEFINE_list("regime", None, "Regime values to run; default: all.", flag_values=values)
    flags.DEFINE_list("seed", None, "Seeds to run; default: all.", flag_values=values)
    flags.DEFINE_bool("plan", False, "Show what would be done; write nothing.", values)


def _numbers(text: Sequence[str] | None, kind: Callable[[str], Any], flag: str) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text]
    except ValueError as error:
        raise UsageError(f"--{flag}={','.join(text)}: not a list of numbers") from error


def _run(values: Values, args: list[str]) -> int:
    from facebench import config, run

    _expect(args, 0, 0, "run --config=FILE[:ARG] [--config.KEY=VALUE ...]")
    if _value(values, "config") is None:
        raise UsageError("run needs --config=FILE; `facebench list experiments` names them")
    return run.run(
        _workspace(values),
        config.finish(_value(values, "config"), config.file_of(values)),
        values=_numbers(_value(values, "regime"), float, "regime"),
        seeds=_numbers(_value(values, "seed"), int, "seed"),
        plan_only=_value(values, "plan"),
    )


# -- list, data, protocol -------------------------------------------------------------------------


def _list_flags(values: Values, argv: Sequence[str]) -> None:
    _common(values)
    flags.DEFINE_bool("json", False, "Print JSON.", values)


def _list(values: Values, args: list[str]) -> int:
    from facebench import catalogue

    _expect(args, 0, 1, VERBS["list"].usage)
    found = catalogue.listing(_workspace(values), args[0] if args else None)
    if _value(values, "json"):
        print(json.dumps(found, indent=2))
    else:
        print(catalogue.text(found))
    return 0


def _data_flags(values: Values, argv: Sequence[str]) -> None:
    _common(values)
    flags.DEFINE_string("source", None, "Folder of the official release.", values)


def _data(values: Values, args: list[str]) -> int:
    from facebench import catalogue

    what, name = _expect(args, 2, 2, VERBS["data"].usage)
    source = Path(_value(values, "source")) if _value(values, "source") else None
    actions = {"prepare": catalogue.prepare, "verify": catalogue.verify}
    if what not in actions:
        raise UsageError(f"no such command: data {what}; {nearest(what, actions)}")
    return actions[what](_workspace(values), name, source)


def _protocol_flags(values: Values, argv: Sequence[str]) -> None:
    _common(values)
    flags.DEFINE_string("from", None, "new: the protocol to start from.", values)
    flags.DEFINE_string("id", None, "new: TASK/DATASET/REGIME@VERSION of the draft.", values)
    flags.DEFINE_multi_string(
        "set", [], "new, bump: FIELD=VALUE (JSON or text), FIELD= removes it; repeatable.", values
    )
    flags.DEFINE_bool("json", False, "show: print JSON.", values)


def _protocol(values: Values, args: list[str]) -> int:
    from facebench import catalogue

    usage, changes = VERBS["protocol"].usage, _value(values, "set")
    what, *names = _expect(args, 1, 2, usage)
    actions = {
        "bump": lambda ws, name: catalogue.bump(ws, name, changes),
        "freeze": catalogue.freeze,
        "show": lambda ws, name: catalogue.show(ws, name, _value(values, "json")),
    }
    if what not in ("new", *actions):
        raise UsageError(f"no such command: protocol {what}; {nearest(what, ['new', *actions])}")
    if changes and what not in ("new", "bump"):
        raise UsageError(f"--set belongs to protocol new and bump, not to {what}")
    if what != "new":
        if not names:
            raise UsageError(f"protocol {what} needs a protocol's id; usage: facebench {usage}")
        return actions[what](_workspace(values), names[0])
    for flag in ("from", "id"):
        if _value(values, flag) is None:
            raise UsageError(f"protocol new needs --{flag}; usage: facebench {usage}")
    if names:
        raise UsageError(f"unexpected {names[0]!r}; usage: facebench {usage}")
    return catalogue.new(_workspace(values), _value(values, "from"), _value(values, "id"), changes)


# -- the judge ------------------------------------------------------------------------------------


def _score_flags(values: Values, argv: Sequence[str]) -> None:
    flags.DEFINE_string("task", None, "What was predicted; `facebench list tasks`.", values)
    flags.DEFINE_string("predictions", None, "An .npz file of predictions.", values)
    flags.DEFINE_string("targets", None, "An .npz file of true values.", values)
    flags.DEFINE_string("convention", None, "How it is scored; default: the task's.", values)
    flags.DEFINE_list("thresholds", None, "Of threshold metrics, such as 8,10.", flag_values=values)
    flags.DEFINE_bool("json", True, "Print JSON (the only form).", values)


def _score(values: Values, args: list[str]) -> int:
    from facebench import score

    _expect(args, 0, 0, VERBS["score"].usage)
    for name in ("task", "predictions", "targets"):
        if _value(values, name) is None:
            raise UsageError(f"score needs --{name}; usage: facebench {VERBS['score'].usage}")
    result = score.score_files(
        _value(values, "task"),
        Path(_value(values, "predictions")),
        Path(_value(values, "targets")),
        _value(values, "convention"),
        _numbers(_value(values, "thresholds"), float, "thresholds"),
    )
    print(json.dumps(result, indent=2))
    return 0


def _submit_flags(values: Values, argv: Sequence[str]) -> None:
    _common(values)
    flags.DEFINE_string("protocol", None, "TASK/DATASET/REGIME@VERSION.", values)
    flags.DEFINE_string("entry", None, "The entry whose trials are folded.", values)
    flags.DEFINE_string("trials", None, "First digits of the config digest, if several.", values)
    flags.DEFINE_string("note", "", "A remark kept in the record.", values)
    flags.DEFINE_bool(
        "partial",
        False,
        "Also if trials are missing: the row is not ranked before all are.",
        values,
    )


def _submit(values: Values, args: list[str]) -> int:
    from facebench import leaderboard

    _expect(args, 0, 0, VERBS["submit"].usage)
    for name in ("protocol", "entry"):
        if _value(values, name) is None:
            raise UsageError(f"submit needs --{name}; usage: facebench {VERBS['submit'].usage}")
    space = _workspace(values)
    path, new = leaderboard.submit(
        space,
        _value(values, "protocol"),
        _value(values, "entry"),
        config=_value(values, "trials"),
        note=_value(values, "note"),
        partial=_value(values, "partial"),
    )
    print(f"{'wrote' if new else 'already there:'} {space.relative(path)}")
    names = _value(values, "protocol"), _value(values, "entry")
    if lacking := leaderboard.missing(space, *names):
        print(f"incomplete, not ranked: no record has {', '.join(lacking)}")
    if new:
        print("next: facebench leaderboard build")
    return 0


def _leaderboard_flags(values: Values, argv: Sequence[str]) -> None:
    _common(values)
    flags.DEFINE_string(
        "against", None, "check: a git revision whose evidence must still be there.", values
    )


def _leaderboard(values: Values, args: list[str]) -> int:
    from facebench import leaderboard

    (what,) = _expect(args, 1, 1, VERBS["leaderboard"].usage)
    space, against = _workspace(values), _value(values, "against")
    if against is not None and what != "check":
        raise UsageError(f"--against belongs to leaderboard check, not to {what}")
    if what == "build":
        written = leaderboard.write(space)
        print(f"{len(written)} files; start at {space.relative(space.leaderboards / 'README.md')}")
        return 0
    if what == "check":
        report = leaderboard.check(space, against)
        for line in report.notices:
            print(f"notice: {line}")
        for line in report.problems:
            print(f"WRONG: {line}")
        print(f"{report.checked} records checked, {len(report.problems)} problems")
        return 1 if report.problems else 0
    raise UsageError(f"no such command: leaderboard {what}; {nearest(what, ['build', 'check'])}")


# -- quickstart -----------------------------------------------------------------------------------


def _quickstart_flags(values: Values, argv: Sequence[str]) -> None:
    _common(values)
    flags.DEFINE_string("dir", "quickstart", "Where its own workspace is made.", values)


def _quickstart(values: Values, args: list[str]) -> int:
    from facebench import quickstart

    _expect(args, 0, 0, VERBS["quickstart"].usage)
    return quickstart.quickstart(_workspace(values), Path(_value(values, "dir")), main)


VERBS: dict[str, Verb] = {
    "quickstart": Verb(
        "the whole path on generated faces, in a workspace of its own",
        "quickstart [--dir=FOLDER]",
        _quickstart_flags,
        _quickstart,
    ),
    "list": Verb(
        "datasets, experiments, models, probes, protocols, tasks",
        "list [datasets|experiments|models|probes|protocols|tasks] [--json]",
        _list_flags,
        _list,
    ),
    "data": Verb(
        "build a dataset for training, or compare it with its digests",
        "data prepare|verify NAME[/CONFIG] [--source=FOLDER]",
        _data_flags,
        _data,
    ),
    "run": Verb(
        "train, predict and score an experiment",
        "run --config=FILE[:ARG] [--config.KEY=VALUE ...] [--regime=R,..] [--seed=N,..] [--plan]",
        _run_flags,
        _run,
    ),
    "score": Verb(
        "score anybody's predictions",
        "score --task=TASK --predictions=P.npz --targets=T.npz [--convention=NAME]",
        _score_flags,
        _score,
    ),
    "submit": Verb(
        "fold finished trials into a record",
        "submit --protocol=ID --entry=NAME [--partial]",
        _submit_flags,
        _submit,
    ),
    **follow.VERBS,
    **interpretation.VERBS,
    **conversion.VERBS,
    "leaderboard": Verb(
        "make the boards from the records, or check all of it",
        "leaderboard build|check [--against=GIT_REVISION]",
        _leaderboard_flags,
        _leaderboard,
    ),
    "protocol": Verb(
        "show, draft, bump and freeze what is asked of entries",
        "protocol show|bump|freeze ID [--json] [--set=FIELD=VALUE ..] | new --from=ID --id=ID [..]",
        _protocol_flags,
        _protocol,
    ),
}


def usage() -> str:
    """What ``facebench --help`` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return (
        "facebench: a benchmark suite for facial analysis\n\n"
        "usage: facebench VERB [flags]\n\n" + "\n".join(lines) + "\n\n"
        "`facebench VERB --help` shows the flags of a verb. Start with: facebench quickstart"
    )


def _help(name: str, values: Values) -> str:
    lines = [f"usage: facebench {VERBS[name].usage}", "", VERBS[name].summary, ""]
    for flag in sorted(values):
        if "." in flag:
            continue
        default = "" if values[flag].default in (None, "", False) else values[flag].default
        shown = f" [{default}]" if default else ""
        lines.append(f"  --{flag:<12} {values[flag].help}{shown}")
    return "\n".join(lines)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "--helpfull", "help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] in ("--version", "version"):
        from facebench import __version__

        print(f"facebench {__version__}")
        return 0
    name, rest = argv[0], argv[1:]
    if name not in VERBS:
        raise UsageError(f"no such command: {name}; {nearest(name, VERBS)}")
    verb, values = VERBS[name], Values()
    wants_help = any(a in ("-h", "--help", "--helpfull") for a in rest)
    try:
        verb.define(values, ["facebench", *rest])
        args = values(["facebench", *(() if wants_help else rest)])[1:]
    except (AttributeError, KeyError, OSError, ValueError, flags.Error) as error:
        from facebench import config

        raise config.explain_parse_error(error, rest, list(values)) from error
    if wants_help:
        print(_help(name, values))
        return 0
    return verb.call(values, args)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the words after ``facebench``; default those of the process.

    Returns:
        The exit code.
    """
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except UsageError as error:
        print(f"facebench: {error}", file=sys.stderr)
        return 2
    except FacebenchError as error:
        print(f"facebench: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        print("facebench: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
