"""What was run, on what, and with what result: records that are written as JSON and read back. No torch, no ray."""

from joyful_ray.records.assessments import (
    Assessment,
    Calibration,
    GroupScore,
    Interval,
    ModalityShift,
    TransferCell,
    TransferRecord,
)
from joyful_ray.records.bundles import BundleCard, PredictionCard
from joyful_ray.records.certificates import Certificate, DisturbedRun
from joyful_ray.records.environment import versions
from joyful_ray.records.reading import read_as, read_lines_as
from joyful_ray.records.retrieval import RetrievalScores
from joyful_ray.records.runs import EpochMetrics, RankTimes, RunRecord, StepReport
from joyful_ray.records.scores import SELECTS, Scores
from joyful_ray.records.searches import Candidate, SearchRecord
from joyful_ray.records.seeds import SeedRun, SeedsRecord, Spread, seed_run, spread, spreads
from joyful_ray.records.studies import STUDY_RECORD, StudyGroup, StudyRecord, StudyRow

__all__ = [
    "SELECTS",
    "STUDY_RECORD",
    "Assessment",
    "BundleCard",
    "Calibration",
    "Candidate",
    "Certificate",
    "DisturbedRun",
    "EpochMetrics",
    "GroupScore",
    "Interval",
    "ModalityShift",
    "PredictionCard",
    "RankTimes",
    "RetrievalScores",
    "RunRecord",
    "Scores",
    "SearchRecord",
    "SeedRun",
    "SeedsRecord",
    "Spread",
    "StepReport",
    "StudyGroup",
    "StudyRecord",
    "StudyRow",
    "TransferCell",
    "TransferRecord",
    "read_as",
    "read_lines_as",
    "seed_run",
    "spread",
    "spreads",
    "versions",
]
