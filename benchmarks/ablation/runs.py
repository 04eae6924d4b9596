"""Lists the runs that train the arms, and trains them, each in a separate process on a separate core."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from benchmarks.ablation.protocol import ARMS, RECIPE, SHARED, STAGES, Arm, Protocol, Run, run_name, seeds_of
from benchmarks.ablation.rows import Rows

NICE = 10
_POLL_SECONDS = 1.0


def runs(protocol: Protocol, arms: Iterable[str], seeds: Sequence[int], output: Path) -> list[Run]:
    """The runs of these arms and those that they take stages from, seed by seed; each comes after those it needs."""
    folders = {run_name(name, seed): str(output / run_name(name, seed)) for name in (*SHARED, *ARMS) for seed in seeds}
    found: dict[str, Run] = {}

    def add(name: str, seed: int) -> None:
        arm = SHARED.get(name) or ARMS[name]
        for shared in arm.shared.values():
            add(shared, seed)
        run = protocol.run(arm, seed, folders)
        found.setdefault(run.name, run)

    for seed in seeds:
        for name in arms:
            if seed in seeds_of(ARMS[name], seeds):
                add(name, seed)
    return list(found.values())


def tries(
    protocol: Protocol, arm: Arm, seed: int, output: Path, field: str, values: Mapping[str, Any]
) -> dict[str, Run]:
    """Returns runs that train one stage of an arm, each with another value of a field, and no later stage.

    Args:
        protocol: protocol of the arm's run.
        arm: the arm. The stages before the field's stage are taken from the arm's run, or from the shared runs from
            which that run takes them.
        seed: seed of the runs.
        output: the folder that holds the runs' folders.
        field: dotted name of a field of a stage that the arm trains.
        values: values of the field, by the text that stands for them in the runs' names.

    Returns:
        The runs, by the same texts.
    """
    base = runs(protocol, [arm.name], [seed], output)[-1]
    stages = stages_of(protocol, arm)
    place = stages.index(field.split(".")[0])
    own = [stage for stage in stages[:place] if stage not in arm.shared]
    fields = {
        **base.fields,
        **{f"{stage}.from_run": str(output / base.name) for stage in own},
        **{f"{stage}.skip": True for stage in stages[place + 1 :]},
    }
    needs = (base.name,) if own else base.needs
    return {
        text: Run(f"{base.name}-{field}-{text}", arm.name, seed, {**fields, field: value}, needs)
        for text, value in values.items()
    }


def stages_of(protocol: Protocol, arm: Arm) -> list[str]:
    """All stages of an arm's run, including those that it takes from other runs."""
    return [stage for stage in STAGES if stage in protocol.epochs(arm) or stage in arm.shared]


def train(protocol: Protocol, run: Run, output: Path, rows: Optional[Rows], log: Callable[[str], None]) -> None:
    """Trains or resumes one run, and writes the rows of its finished stages, even if training fails or is stopped.

    With ``rows=None``, no rows are written.
    """
    from r2b_zoo import recipes, training
    from r2b_zoo.runs.folder import RunFolder

    folder = RunFolder(output / run.name)
    plan = recipes.plan(RECIPE, **run.fields)
    try:
        training.train(plan, folder, log=log)
    finally:
        if rows is not None and folder.config_path.is_file():
            for path in rows.write(protocol, run, folder):
                log(f"Row {path}")


@dataclass
class Team:
    """Processes that train, one per core.

    Args:
        command: command line that trains a run if the run's name is appended to it.
        logs: folder for the output of the processes.
        cores: cores to which the processes are pinned, one process each.
        log: takes a line when a run starts or ends.
    """

    command: Sequence[str]
    logs: Path
    cores: Sequence[int]
    log: Callable[[str], None]
    _at_work: dict[int, tuple[Run, "subprocess.Popen[bytes]"]] = field(default_factory=dict)

    def run(self, waiting: Sequence[Run]) -> dict[str, int]:
        """Trains all runs; each starts when the runs that it needs are done, and does not start if one of them failed.

        Returns:
            Exit statuses of the runs that failed, by name; -1 for runs that were not started.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        todo, names = list(waiting), {run.name for run in waiting}
        done: set[str] = set()
        failed: dict[str, int] = {}
        try:
            while todo or self._at_work:
                ready = [run for run in todo if all(need in done or need not in names for need in run.needs)]
                for core in self.cores:
                    if core not in self._at_work and ready:
                        todo.remove(ready[0])
                        self._start(core, ready.pop(0))
                for name, status in self._ended():
                    if status == 0:
                        done.add(name)
                    else:
                        failed[name] = status
                self._leave(todo, failed)
                time.sleep(_POLL_SECONDS)
        finally:
            self._stop()
        return failed

    def _leave(self, todo: list[Run], failed: dict[str, int]) -> None:
        """Counts runs that need a failed run as failed."""
        for run in [run for run in todo if any(need in failed for need in run.needs)]:
            todo.remove(run)
            failed[run.name] = -1
            self.log(f"{run.name}: skipped, because a run that it needs failed")

    def _ended(self) -> list[tuple[str, int]]:
        """Returns names and exit statuses of the runs that ended since the last call, and frees their cores."""
        found = []
        for core, (run, process) in list(self._at_work.items()):
            status = process.poll()
            if status is not None:
                del self._at_work[core]
                self.log(f"{run.name}: {'done' if status == 0 else f'exit status {status}'}")
                found.append((run.name, status))
        return found

    def _start(self, core: int, run: Run) -> None:
        self.log(f"{run.name}: starts on core {core}, log {self.logs / run.name}.log")
        with open(self.logs / f"{run.name}.log", "ab") as log:
            process = subprocess.Popen([*self.command, run.name], stdout=log, stderr=subprocess.STDOUT)
        # Set these right after the start: they apply to the first thread, and threads started later inherit them.
        os.sched_setaffinity(process.pid, {core})
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        self._at_work[core] = run, process

    def _stop(self) -> None:
        """Ends the runs that still train; they can be resumed."""
        for _, process in self._at_work.values():
            process.send_signal(signal.SIGTERM)
        for _, process in self._at_work.values():
            process.wait()
