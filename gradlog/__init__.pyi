from .advice import QUANTITIES, Advice, Decision, Figure, Schedule, advise
from .chance import share_by_chance
from .cluster.cluster import Cluster, on_cluster
from .cluster.estimate import ClusterEstimate
from .comparisons.comparable_run import analyze_for_comparison
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
from .documents.document_reader import holds_analyses, load_analyses, read_analyses
from .engine.measure import Accumulator, Measure, PassContext
from .engine.request import PassShape, Span
from .engine.splitting import PartNumber
from .engine.state import PartState, State, Symmetric
from .engine.tile import Tile
from .errors import ClusterError, DataError, GradmfError, MemoryLimitError, StoreNotFoundError, UsageError
from .exports.exporting import ExportSummary, check_export, export
from .findings.finding import Finding, Thresholds
from .findings.finding_table import find
from .gates.gate_rule import Limit, Rule, RuleError, Vocabulary, parse_rule
from .gates.gates import Breach, Violation, judge
from .guarantees.bounding import analyze_for_bounds, bounds, check_bounds
from .guarantees.guarantee import Anytime, Bounds, Guarantee, MeetingRank, ResidualCurve
from .importing.import_plan import ImportedStep, ImportedTensor, ImportPlan, ImportSettings, plan_import
from .importing.log_import import ImportSummary, import_log
from .logs.declared_log import declared_log
from .logs.description import LogDescription, TensorDescription, describe
from .logs.inventory import ChunkInventory
from .logs.log import GradientLog, Tensor
from .logs.opening import open_log
from .logs.places.access import remote_access
from .logs.repeated_steps import kept_rows
from .logs.scratch import ScratchError
from .logs.stored_chunks import take_inventory
from .logs.writer import LogWriter, create_log
from .measures.registry import measure
from .pages.rendering import report
from .pages.reported_run import ReportedRun, analyze_for_report
from .pages.saving import check_report, save_report
from .plots.figure import plot
from .plots.panels import PANELS
from .plots.preparing import analyze_for_plot
from .plots.saving import check_plot, save_plot
from .predictors import DEFAULT_PREDICTORS, known_predictors, parse_predictor
from .recording.lightning_callback import lightning_callback
from .recording.record import record
from .recording.recorder import Recorder
from .recording.row_writer import RecordingError
from .recording.transformers_callback import trainer_callback
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
from .results.row_kind import RowKind
from .results.search_result import FoundPredictor, PredictorSearch, ScopeSearch
from .results.windows import ScopeWindows, Windows
from .runs.analysis import analyze
from .runs.merging import merge_parts
from .runs.part_file import write_part
from .runs.partial import PartialAnalysis, analyze_part
from .runs.planning import PlanDescription, describe_plan
from .runs.rechunking import CopiedTensor, RechunkPlan, RechunkSummary, plan_rechunk, rechunk_log
from .runs.relation import Relation, RelationWindow, ScopeRelation, check_relation, relate
from .runs.selecting import open_as_asked
from .runs.sketch_writer import SketchSummary, sketch_log
from .version import __version__

__all__ = [
    "DEFAULT_PREDICTORS",
    "PANELS",
    "QUANTITIES",
    "Accumulator",
    "Advice",
    "Analysis",
    "Anytime",
    "Bounds",
    "Breach",
    "Change",
    "ChunkInventory",
    "Cluster",
    "ClusterError",
    "ClusterEstimate",
    "Comparison",
    "CopiedTensor",
    "Cost",
    "DataError",
    "Decision",
    "ExportSummary",
    "Figure",
    "Finding",
    "FoundPredictor",
    "GradientLog",
    "GradmfError",
    "GrowthPoint",
    "Guarantee",
    "ImportPlan",
    "ImportSettings",
    "ImportSummary",
    "ImportedStep",
    "ImportedTensor",
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
    "RechunkPlan",
    "RechunkSummary",
    "Recorder",
    "RecordingError",
    "Relation",
    "RelationWindow",
    "ReportedRun",
    "ResidualCurve",
    "RowKind",
    "Rule",
    "RuleError",
    "RunInfo",
    "Schedule",
    "ScopeComparison",
    "ScopeRelation",
    "ScopeResult",
    "ScopeSearch",
    "ScopeWindows",
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
    "Thresholds",
    "Tile",
    "UsageError",
    "Violation",
    "Vocabulary",
    "Windows",
    "__version__",
    "advice_document",
    "advise",
    "analysis_document",
    "analyze",
    "analyze_for_bounds",
    "analyze_for_comparison",
    "analyze_for_plot",
    "analyze_for_report",
    "analyze_part",
    "bounds",
    "bounds_document",
    "check_bounds",
    "check_comparison",
    "check_export",
    "check_plot",
    "check_relation",
    "check_report",
    "compare",
    "comparison_document",
    "comparison_vocabulary",
    "create_log",
    "declared_log",
    "describe",
    "describe_plan",
    "description_document",
    "export",
    "find",
    "holds_analyses",
    "import_log",
    "judge",
    "judge_comparison",
    "kept_rows",
    "known_predictors",
    "lightning_callback",
    "load_analyses",
    "measure",
    "merge_parts",
    "on_cluster",
    "open_as_asked",
    "open_log",
    "parse_predictor",
    "parse_rule",
    "plan_document",
    "plan_import",
    "plan_rechunk",
    "plot",
    "read_analyses",
    "rechunk_log",
    "record",
    "relate",
    "remote_access",
    "report",
    "save_plot",
    "save_report",
    "share_by_chance",
    "shared_rows",
    "sketch_log",
    "take_inventory",
    "trainer_callback",
    "write_part",
]
