"""Records: one frozen type for every stage of knowledge.

A picture becomes detections, detections become sightings on the road, sightings a trajectory, a trajectory a speed,
a speed a passage, passages a histogram, a histogram a release. Each record holds what is known at that stage and
nothing that should have been forgotten: a :class:`Passage` has no track id and no way to be written to disk, and a
:class:`Release` is the only record whose rows the outbox queues.

Stages never import each other; what two of them share stands here.
"""

from edge.clock import ClockState
from edge.domain.camera import CameraReport, CameraState, Unwatched
from edge.domain.histogram import FEW_N, MIN_N_QUANTILE, Binning, SpeedHistogram
from edge.domain.records import (
    VEHICLE_CLASSES,
    Bools,
    Detections,
    Direction,
    Floats,
    Frame,
    Ints,
    Passage,
    Path,
    Pixels,
    Reason,
    Region,
    RoadUser,
    Sightings,
    SpeedEstimate,
    TimeKind,
    Trajectory,
)
from edge.domain.release import (
    DAY_BEGINS_H,
    FREE_FLOW_HEADWAY_S,
    Counters,
    DayMix,
    Flag,
    PrivacyRule,
    Provenance,
    Queued,
    Relabelling,
    Release,
    Settlement,
    VehicleMix,
    WindowAggregate,
    day_end_utc_ns,
    traffic_day,
)

__all__ = [
    "DAY_BEGINS_H",
    "FEW_N",
    "FREE_FLOW_HEADWAY_S",
    "MIN_N_QUANTILE",
    "VEHICLE_CLASSES",
    "Binning",
    "Bools",
    "CameraReport",
    "CameraState",
    "ClockState",
    "Counters",
    "DayMix",
    "Detections",
    "Direction",
    "Flag",
    "Floats",
    "Frame",
    "Ints",
    "Passage",
    "Path",
    "Pixels",
    "Region",
    "PrivacyRule",
    "Provenance",
    "Queued",
    "Relabelling",
    "Reason",
    "Release",
    "RoadUser",
    "Settlement",
    "Sightings",
    "SpeedEstimate",
    "SpeedHistogram",
    "TimeKind",
    "Trajectory",
    "Unwatched",
    "VehicleMix",
    "WindowAggregate",
    "day_end_utc_ns",
    "traffic_day",
]
