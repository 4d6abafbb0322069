"""What the agent does at this moment, for `status` and the page."""

from __future__ import annotations

from dataclasses import dataclass, field

from pleb_agent.core.agent_state import Activity, AgentState

__all__ = ["CurrentUnit", "LiveStatus"]


@dataclass(frozen=True)
class CurrentUnit:
    """The unit in hand. `loss` is that of the last step."""

    project: str
    assignment: int
    kind: str
    version: int
    steps_done: int = 0
    steps_total: int = 0
    loss: float | None = None
    compute_seconds: float = 0.0


@dataclass
class LiveStatus:
    """Changed by the loop, read by everybody else."""

    state: AgentState = field(
        default_factory=lambda: AgentState(Activity.IDLE, "The agent is starting.")
    )
    unit: CurrentUnit | None = None
    units_finished: int = 0
    """Since the start of this process."""

    def set(self, activity: Activity, sentence: str, next_look_at: float | None = None) -> None:
        """Change the agent's state."""
        self.state = AgentState(activity, sentence, next_look_at)
