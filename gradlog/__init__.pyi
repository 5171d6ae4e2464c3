from .advice import QUANTITIES, Advice, Decision, Figure, Schedule, advise
from .chance import share_by_chance
from .comparisons.comparison import Change, Comparison, ScopeComparison, check_comparison, compare
from .comparisons.comparison_gates import comparison_vocabulary, judge_comparison
from .comparisons.shared_rows import shared_rows
from .documents.advice_document import advice_document
from .documents.document import (
    analysis_document,
    bounds_document,
    comparison_document,
    description_document,
    plan_document,
)
from .documents.document_reader import holds_analyses, read_analyses
from .engine.measure import Accumulator, Measure, PassContext
from .engine.request import PassShape, Span
from .engine.splitting import PartNumber
from .engine.state import PartState, State, Symmetric
from .engine.tile import Tile
from .errors import DataError, GradmfError, MemoryLimitError, StoreNotFoundError, UsageError
from .gates.gate_rule import Limit, Rule, RuleError, Vocabulary, parse_rule
from .gates.gates import Finding, Violation, judge
from .guarantees.bounding import analyze_for_bounds, bounds, check_bounds
from .guarantees.guarantee import Anytime, Bounds, Guarantee, MeetingRank, ResidualCurve
from .logs.description import LogDescription, TensorDescription, describe
from .logs.inventory import ChunkInventory
from .logs.log import GradientLog, Tensor
from .logs.opening import open_log
from .logs.scratch import ScratchError
from .logs.stored_chunks import take_inventory
from .logs.writer import LogWriter, create_log
from .measures.registry import measure
from .predictors import DEFAULT_PREDICTORS, known_predictors, parse_predictor
from .results.quantities import Reading
from .results.result import (
    Analysis,
    Cost,
    GrowthPoint,
    LogWarning,
    PredictorResult,
    RankResult,
    RunInfo,
    ScopeResult,
    Settings,
    SpectrumResult,
    Steps,
    SubspaceMeasure,
    SubspaceResult,
    SubspaceWindow,
    TensorResult,
    TensorSteps,
)
from .results.search_result import FoundPredictor, PredictorSearch, ScopeSearch
from .runs.analysis import analyze
from .runs.merging import merge_parts
from .runs.part_file import write_part
from .runs.partial import PartialAnalysis, analyze_part
from .runs.planning import PlanDescription, describe_plan
from .runs.preparation import open_as_asked
from .runs.relation import Relation, RelationWindow, ScopeRelation, check_relation, relate
from .runs.sketch_writer import SketchSummary, sketch_log
from .version import __version__

__all__ = [
    "DEFAULT_PREDICTORS",
    "QUANTITIES",
    "Accumulator",
    "Advice",
    "Analysis",
    "Anytime",
    "Bounds",
    "Change",
    "ChunkInventory",
    "Comparison",
    "Cost",
    "DataError",
    "Decision",
    "Figure",
    "Finding",
    "FoundPredictor",
    "GradientLog",
    "GradmfError",
    "GrowthPoint",
    "Guarantee",
    "Limit",
    "LogDescription",
    "LogWarning",
    "LogWriter",
    "Measure",
    "MeetingRank",
    "MemoryLimitError",
    "PartNumber",
    "PartState",
    "PartialAnalysis",
    "PassContext",
    "PassShape",
    "PlanDescription",
    "PredictorResult",
    "PredictorSearch",
    "RankResult",
    "Reading",
    "Relation",
    "RelationWindow",
    "ResidualCurve",
    "Rule",
    "RuleError",
    "RunInfo",
    "Schedule",
    "ScopeComparison",
    "ScopeRelation",
    "ScopeResult",
    "ScopeSearch",
    "ScratchError",
    "Settings",
    "SketchSummary",
    "Span",
    "SpectrumResult",
    "State",
    "Steps",
    "StoreNotFoundError",
    "SubspaceMeasure",
    "SubspaceResult",
    "SubspaceWindow",
    "Symmetric",
    "Tensor",
    "TensorDescription",
    "TensorResult",
    "TensorSteps",
    "Tile",
    "UsageError",
    "Violation",
    "Vocabulary",
    "__version__",
    "advice_document",
    "advise",
    "analysis_document",
    "analyze",
    "analyze_for_bounds",
    "analyze_part",
    "bounds",
    "bounds_document",
    "check_bounds",
    "check_comparison",
    "check_relation",
    "compare",
    "comparison_document",
    "comparison_vocabulary",
    "create_log",
    "describe",
    "describe_plan",
    "description_document",
    "holds_analyses",
    "judge",
    "judge_comparison",
    "known_predictors",
    "measure",
    "merge_parts",
    "open_as_asked",
    "open_log",
    "parse_predictor",
    "parse_rule",
    "plan_document",
    "read_analyses",
    "relate",
    "share_by_chance",
    "shared_rows",
    "sketch_log",
    "take_inventory",
    "write_part",
]
