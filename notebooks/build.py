"""Build, check and execute the notebooks of the course; their sources are in notebooks/src.

    python notebooks/build.py build               write all notebooks from notebooks/src
    python notebooks/build.py build --execute 05  also run 05's solution and keep its outputs
    python notebooks/build.py check               do notebooks match their sources and the rules?
    python notebooks/build.py run                 run all of them headless; writes nothing here
    python notebooks/build.py run --record        the same, and keep how much work each took

`--help` behind each of them lists its options.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from nbtools import convert, execute, hygiene  # noqa: E402
from nbtools.convert import Course, Problem  # noqa: E402


def build(args: argparse.Namespace) -> int:
    """Write student and solution notebooks; with --execute, run the solutions first."""
    course = Course()
    sources = _some(course, args.notebooks)
    if not args.force:
        _refuse_to_lose_work(course, sources)
    changed = [course.target(s, "student") for s in sources if _build_student(course, s)]
    if args.execute:
        failed = _build_executed(course, sources, args.profile, changed)
    else:
        failed = []
        changed += [course.target(s, "solution") for s in sources if _build_solution(course, s)]
    for path in changed:
        print(f"wrote {path.relative_to(course.folder.parent).as_posix()}")
    print(f"{len(sources)} sources, {len(changed)} notebooks changed")
    return _report(failed)


def _build_student(course: Course, source: Path) -> bool:
    return convert.write(convert.make(source, "student"), course.target(source, "student"))


def _build_solution(course: Course, source: Path) -> bool:
    """Write the solution notebook; the cells whose code is unchanged keep their outputs."""
    path = course.target(source, "solution")
    notebook = convert.make(source, "solution")
    if path.exists():
        convert.keep_outputs(notebook, convert.read_notebook(path))
    return convert.write(convert.tidy(notebook), path)


def _build_executed(
    course: Course, sources: list[Path], profile: str, changed: list[Path]
) -> list[execute.Job]:
    """Execute the solutions in order and write each as soon as it is through; returns those that
    failed."""
    root = execute.fresh_folder()

    def keep(job: execute.Job) -> None:
        path = course.target(Path(f"{job.name}.py"), "solution")
        if job.failure is None and convert.write(convert.tidy(job.notebook), path):
            changed.append(path)

    try:
        series = execute.plan(course, sources, ("solution",), root, alone=False)
        session = execute.Session(profile, course.folder, execute.LIMITS[profile], done=keep)
        return [job for job in execute.execute_all(series, session) if job.failure]
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _refuse_to_lose_work(course: Course, sources: list[Path]) -> None:
    """Stop if somebody has worked in a student notebook that is to be written again."""
    for path in (course.target(source, "student") for source in sources):
        if path.exists() and any(
            c.get("outputs") for c in convert.code_cells(convert.read_notebook(path))
        ):
            raise Problem(
                f"{path.name} has outputs: somebody worked in it, and building would overwrite "
                "that. "
                "Copy it to another name first, or use --force"
            )


def check(args: argparse.Namespace) -> int:
    """Print what is wrong with the notebooks."""
    faults = hygiene.check(Course(), args.notebooks)
    for fault in faults[: args.most]:
        print(fault)
    if len(faults) > args.most:
        print(f"... and {len(faults) - args.most} more (--most {len(faults)} shows all)")
    if not faults:
        print(f"notebooks: {len(Course().sources(args.notebooks))} sources, all built and in order")
    return 1 if faults else 0


def run(args: argparse.Namespace) -> int:
    """Execute notebooks made from the sources as they are now, then print the table the course
    leaves behind."""
    course, started = Course(), time.monotonic()
    sources = _some(course, args.notebooks)
    quick = args.profile == "quick"
    versions = (
        ("student",)
        if args.student
        else convert.VERSIONS
        if quick and not args.solution
        else ("solution",)
    )
    root = execute.fresh_folder()
    limits = (args.timeout, args.timeout) if args.timeout else execute.LIMITS[args.profile]
    session = execute.Session(
        args.profile, course.folder, limits, done=lambda job: _keep_copy(job, root), jobs=args.jobs
    )
    series = execute.plan(course, sources, versions, root, args.alone)
    probe = execute.probe_seconds(args.profile, root / "runs", args.jobs) if args.record else 0.0
    try:
        failed = [job for job in execute.execute_all(series, session) if job.failure]
    except KeyboardInterrupt:
        print(f"\nwhat was made until now: {root}")
        raise
    if args.record:
        _record([job for jobs in series for job in jobs], args.profile, probe)
    print(f"\n{execute.summary(root)}\n")
    print(
        f"{sum(map(len, series))} notebooks in {time.monotonic() - started:.0f} s, {len(failed)} "
        "failed"
    )
    if quick and not failed:
        shutil.rmtree(root, ignore_errors=True)
    else:
        print(f"executed notebooks: {root / 'executed'}\nwhat they made:     {root}")
    return _report(failed)


def _record(jobs: list[execute.Job], profile: str, probe: float) -> None:
    """Write down the work of the solutions that ran through, in probes: see `course.machine`."""
    from rlhf_helpers.course import machine
    from rlhf_helpers.runtime import files

    known = files.read_json(machine.WORK) if machine.WORK.exists() else {}
    for job in jobs:
        if job.version == "solution" and job.failure is None:
            work = {name: round(seconds / probe, 1) for name, seconds in job.work.items()}
            known.setdefault(profile, {})[job.name] = work
    known = {name: dict(sorted(notebooks.items())) for name, notebooks in sorted(known.items())}
    files.replace_json(machine.WORK, known)
    print(f"\nrecorded: {machine.WORK.relative_to(machine.WORK.parents[2]).as_posix()}")


def _keep_copy(job: execute.Job, root: Path) -> None:
    """Write the notebook as executed, failed or not, where one can look at it."""
    convert.write(convert.tidy(job.notebook), root / "executed" / job.version / f"{job.name}.ipynb")


def _some(course: Course, wanted: list[str]) -> list[Path]:
    """Return the wanted sources; raise Problem if there are none."""
    if not (sources := course.sources(wanted)):
        raise Problem("there are no sources in notebooks/src yet")
    return sources


def _report(failed: list[execute.Job]) -> int:
    for job in failed:
        print(f"\n{job.failure}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    commands = parser.add_subparsers(required=True, metavar="build | check | run")

    def command(name: str, function, text: str, examples: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=text, epilog=f"examples:\n{examples}", formatter_class=form
        )
        sub.add_argument(
            "notebooks",
            nargs="*",
            metavar="NN",
            help="notebooks by number or name, for instance 05; all if none is given",
        )
        sub.set_defaults(function=function)
        return sub

    sub = command(
        "build",
        build,
        "make notebooks from notebooks/src",
        "  build\n  build 03 05\n  build --execute 05",
    )
    sub.add_argument(
        "--execute", action="store_true", help="execute the solutions and keep their outputs"
    )
    sub.add_argument(
        "--profile",
        choices=execute.LIMITS,
        default="laptop",
        help="how large the runs are (default: laptop)",
    )
    sub.add_argument(
        "--force", action="store_true", help="overwrite student notebooks that somebody worked in"
    )

    sub = command(
        "check",
        check,
        "say where notebooks differ from their sources or break the rules",
        "  check\n  check 05",
    )
    sub.add_argument(
        "--most", type=int, default=20, metavar="N", help="show at most N faults (default: 20)"
    )

    examples = "  run --profile quick --jobs 2\n  run --student 05\n  run --alone --jobs 2"
    sub = command(
        "run",
        run,
        "execute notebooks headless, each from a fresh kernel; nothing is written into the "
        "repository",
        examples,
    )
    sub.add_argument(
        "--profile",
        choices=execute.LIMITS,
        default="laptop",
        help="how large the runs are (default: laptop)",
    )
    which = sub.add_mutually_exclusive_group()
    which.add_argument(
        "--student",
        action="store_true",
        help="the student version, exercises unsolved (quick runs both)",
    )
    which.add_argument(
        "--solution", action="store_true", help="the solution version (the default but for quick)"
    )
    sub.add_argument(
        "--jobs", type=int, default=1, help="series executed side by side (default: 1)"
    )
    sub.add_argument(
        "--alone",
        action="store_true",
        help="no notebook finds what an earlier one made: each must open alone",
    )
    sub.add_argument(
        "--record",
        action="store_true",
        help="keep in data/recorded/work.json how much work each took, for the estimates of 00",
    )
    sub.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="limit for one cell (default: by profile)"
    )
    return parser


def main(words: list[str] | None = None) -> int:
    args = _parser().parse_args(words)
    try:
        return args.function(args)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
