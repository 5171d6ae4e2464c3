"""Decisions that a run's gradients support: one small module a quantity, each with its formula and source."""

from .advising import advise
from .decision import Advice, Decision, Figure, Schedule
from .quantities import QUANTITIES

__all__ = ["QUANTITIES", "Advice", "Decision", "Figure", "Schedule", "advise"]
