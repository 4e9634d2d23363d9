"""Running steps: the one place where a plan meets the kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from underlay.errors import KernelRefused
from underlay.model.steps import Step, depends_on

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepResult:
    """A step that was run, and the kernel's refusal; None if the step was applied."""

    step: Step
    refusal: KernelRefused | None = None


def run_steps(
    steps: Iterable[Step],
    apply: Callable[[Step], None],
    *,
    must_succeed: Callable[[Step], bool] = lambda _: False,
    refused_before: Iterable[Step] = (),
    level: int = logging.DEBUG,
) -> Iterator[StepResult]:
    """Apply steps in order; yield each with the kernel's refusal, if it was refused.

    A step that depends on a refused one, here or before, is left out. The next step is
    run when the caller asks for its result, so a caller may stop. Raises KernelRefused
    for a step that must succeed.
    """
    refused = list(refused_before)
    for step in steps:
        if any(depends_on(step, other) for other in refused):
            continue
        log.log(level, "step", extra={"step": str(step)})
        refusal = None
        try:
            apply(step)
        except KernelRefused as error:
            if must_succeed(step):
                raise
            refusal = error
            refused.append(step)
            log.warning("step refused", extra={"error": error})
        yield StepResult(step, refusal)


def apply_all(
    steps: Iterable[Step],
    apply: Callable[[Step], None],
    *,
    may_wait: Callable[[Step], bool] = lambda _: False,
    level: int = logging.DEBUG,
) -> None:
    """Apply all steps; raise KernelRefused at the first one that may not wait."""
    for _ in run_steps(
        steps, apply, must_succeed=lambda step: not may_wait(step), level=level
    ):
        pass
