"""The workers of a cluster, as TF_CONFIG lists them. If one of them dies, all others end with an error."""

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import tensorflow as tf

# These modules are private, but only they can set timeouts, and send messages and errors between workers. An update is
# unlikely to change them, because TensorFlow's minor version is pinned.
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
from tensorflow.python.eager import context as eager_context

from r2b_zoo.system.captured_output import captured_output

EXAMPLE = (
    'TF_CONFIG=\'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}\''
)
HEARTBEAT_SECONDS = 20
"""A worker that has sent no heartbeat for this long counts as dead."""
FAREWELL_SECONDS = 2
"""The chief waits this long before it ends with an error, since it runs the service that informs the other workers."""
START_SECONDS = 600
"""How long the workers wait for each other at the start."""


class WorkerLost(RuntimeError):  # noqa: N818 - the name says what happened
    """Another worker died, ended with an error, or cannot be reached."""


@dataclass(frozen=True)
class Cluster:
    """The workers of a cluster. The first is the chief; only the chief writes to the run's folder.

    Attributes:
        names: names of the workers, for example ``worker 0``.
        addresses: host:port of each worker.
        index: position of this process's worker in ``names``.
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    index: int
    _messages: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    def start(self) -> tf.distribute.Strategy:
        """Waits for the other workers, and returns the strategy over the devices of all workers.

        Raises:
            WorkerLost: not all workers started within ten minutes.
            RuntimeError: this process cannot listen on its address, or has used TensorFlow already.
        """
        jobs: dict[str, int] = {}
        for name in self.names:
            jobs[name.split()[0]] = jobs.get(name.split()[0], 0) + 1
        leader = self.names[0].split()
        try:
            eager_context.context().configure_coordination_service(
                service_type="standalone",
                service_leader=f"/job:{leader[0]}/replica:0/task:{leader[1]}",
                cluster_register_timeout_in_ms=1000 * START_SECONDS,
                heartbeat_timeout_in_ms=1000 * HEARTBEAT_SECONDS,
                coordinated_jobs=[
                    coordination_config_pb2.CoordinatedJob(name=job, num_tasks=tasks) for job, tasks in jobs.items()
                ],
            )
            with _quiet():
                return tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.OpError as error:
            if isinstance(error, tf.errors.UnknownError):
                raise RuntimeError(
                    f"This process, {self.names[self.index]}, cannot listen on {self.addresses[self.index]}: end what "
                    "uses that port, or give another one in TF_CONFIG on every worker."
                ) from error
            raise WorkerLost(
                f"Not all of the {self.size} workers in TF_CONFIG ({', '.join(self.addresses)}) started within "
                f"{START_SECONDS // 60} minutes: start the same command on each of them."
            ) from error

    def from_chief(self, text: str) -> str:
        """Returns the chief's ``text`` on every worker. All workers must make the same calls in the same order.

        Raises:
            WorkerLost: the chief ended with an error.
        """
        key = f"r2b_zoo/{next(self._messages)}"
        if self.is_chief:
            eager_context.context().set_config_key_value(key, text)
            return text
        found = eager_context.context().get_config_key_value(key)
        if found.startswith(_SAID):
            raise self._ended(0, found.removeprefix(_SAID))
        return found

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Stops all workers when one of them dies, or fails with an error in the block.

        Other workers are not told of a ``TrainingStopped``, because ``loop.StageLoop`` raises it on all workers after
        the same step.

        Raises:
            WorkerLost: another worker died or failed.
        """
        try:
            yield
        except tf.errors.OpError as error:
            lost = self._lost(error)
            if lost is None:
                self._tell(error)
                raise
            raise lost from error
        except WorkerLost:
            raise
        except Exception as error:
            if getattr(error, "signal_number", None) is None:
                self._tell(error)
            raise

    def _tell(self, error: Exception) -> None:
        """Sends the error to the other workers. Otherwise they would notice late, or never while this process lives."""
        with contextlib.suppress(Exception), _quiet():
            if self.is_chief:  # for workers that wait in from_chief; the error below is for those that compute
                eager_context.context().set_config_key_value(f"r2b_zoo/{next(self._messages)}", f"{_SAID}{error}")
            eager_context.context().report_error_to_cluster(tf.errors.ABORTED, f"{_SAID}{error}")
            if self.is_chief:
                time.sleep(FAREWELL_SECONDS)

    def _lost(self, error: tf.errors.OpError) -> Optional[WorkerLost]:
        """The error to raise if TensorFlow's error is about another worker; None if it is not."""
        text = str(error)
        others = [
            position
            for job, task in re.findall(r"/job:(\w+)(?:/replica:\d+)?/task:(\d+)", text)
            for position, name in enumerate(self.names)
            if name == f"{job} {task}" and position != self.index
        ]
        if not isinstance(error, _OF_PEERS) and not (others and "ollective" in text):
            return None
        said = re.search(rf"{_SAID}(.*)", text)
        return self._ended(others[0] if others else None, said[1].strip() if said else None)

    def _ended(self, other: Optional[int], said: Optional[str]) -> WorkerLost:
        who = "another worker" if other is None else f"{self.names[other]} ({self.addresses[other]})"
        what = "died, or cannot be reached any more" if said is None else f"ended ({said})"
        return WorkerLost(
            f"Training stopped because {who} {what}. Fix the cause, then start the same command on every worker: "
            "it resumes from the last checkpoint."
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the log of the cluster's server if TF_CPP_MIN_LOG_LEVEL is 3; the server itself ignores that variable."""
    with captured_output() if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3" else contextlib.nullcontext():
        yield


_SAID = "r2b_zoo says: "
_OF_PEERS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def from_environment(environment: Mapping[str, str] = os.environ) -> Cluster:
    """The cluster that TF_CONFIG describes.

    Raises:
        ValueError: there is no TF_CONFIG, or it is invalid; the message gives a valid example.
    """
    text = environment.get("TF_CONFIG", "")
    if not text:
        raise ValueError(
            "strategy='multi_worker' needs the environment variable TF_CONFIG, which says where all workers are and "
            f"which of them this is; it is not set. For example: {EXAMPLE}"
        )
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        others = sorted(set(jobs) - {"chief", "worker"})
        if others:
            raise ValueError(
                f"its cluster has {', '.join(others)}; only 'worker' and at most one 'chief' are supported"
            )
        chiefs, workers = (_addresses(jobs.get(job, [])) for job in ("chief", "worker"))
        if len(chiefs) > 1 or not chiefs + workers:
            raise ValueError(
                f"there must be a chief or workers, and at most one chief; it has {len(chiefs)} chiefs and "
                f"{len(workers)} workers"
            )
        names = [*("chief 0" for _ in chiefs), *(f"worker {i}" for i in range(len(workers)))]
        name = f"{task['type']} {int(task['index'])}"
        if name not in names:
            raise ValueError(f"its task is {name}, and its cluster has {', '.join(names)}")
    except KeyError as error:
        raise _malformed(f"there is no {error} in it", text) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise _malformed(error, text) from None
    return Cluster(tuple(names), tuple(chiefs + workers), names.index(name))


def _addresses(listed: Any) -> list[str]:
    if not isinstance(listed, list):
        raise ValueError(f"addresses must be a list; received {listed!r}")
    for address in listed:
        if not isinstance(address, str) or not re.fullmatch(r".+:\d+", address):
            raise ValueError(f"an address must be host:port; received {address!r}")
    if len(set(listed)) < len(listed):
        raise ValueError("two workers have the same address")
    return listed


def _malformed(why: object, text: str) -> ValueError:
    return ValueError(f"TF_CONFIG cannot be used ({why}); received {text!r}. For example: {EXAMPLE}")
