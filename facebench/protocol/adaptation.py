"""Adaptation: what an experiment does with its backbone, and whether a protocol asks for that.

``scratch`` trains it from its initialisation, ``adapted`` from stored weights, ``frozen`` leaves it
as it is and fits a probe on its features. A probe on pixels has no backbone and is none of these.
All of it follows from the config, which every record holds; nothing is claimed.

=========  ===================================================================================
protocol   takes
=========  ===================================================================================
any        its own adaptation; floors and canaries that train no backbone
scratch    whatever has no backbone; no stored weights, not even frozen ones: their labels are not
           the protocol's
adapted    a baseline that is trained from its initialisation, too
frozen     ``head`` of the protocol, where it names one, as the probe of entries and baselines
=========  ===================================================================================

Without labels (regime ``zero``) nothing trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facebench.protocol import Protocol

BELOW = ("floor", "canary")  # kinds that may do less than a protocol asks for


def of_config(semantic: Mapping[str, Any]) -> str | None:
    """``frozen``, ``adapted`` or ``scratch``; None where there is no backbone.

    Args:
        semantic: the semantic half of a config, as trials and records hold it.
    """
    probe, model = semantic.get("probe"), semantic.get("model")
    if probe:
        return "frozen" if "features" in probe else None
    return "adapted" if _stored(model) else "scratch"


def _stored(model: Any) -> bool:
    return isinstance(model, Mapping) and bool(model.get("weights"))


def fault(of: Protocol, kind: str, semantic: Mapping[str, Any]) -> str | None:
    """Why a protocol does not take an experiment, in one line; None if it does.

    Args:
        of: the protocol.
        kind: ``entry``, ``baseline``, ``floor`` or ``canary``.
        semantic: the semantic half of its config.
    """
    does, asked = of_config(semantic), of.adaptation
    said = {
        "adapted": "trains a backbone from stored weights",
        "frozen": "fits a probe on a frozen backbone",
        "scratch": "trains a backbone from its initialisation",
        None: "fits a probe on pixels",
    }[does]
    trains = does in ("adapted", "scratch")
    if trains and of.regimes["kind"] == "zero":
        return f"it {said}, and regime 'zero' has no label to train on; use a probe"
    if asked == "scratch" and _stored(semantic.get("model")):
        return (
            "it reads stored weights, and adaptation 'scratch' starts from nothing; leave out "
            "config.model.weights, or enter it under a protocol with adaptation 'frozen' or "
            "'adapted'"
        )
    if does == asked:
        head = (semantic.get("probe") or {}).get("build")
        if does == "frozen" and of.head and kind not in BELOW and head != of.head:
            return (
                f"config.probe.build is {head!r}, and the protocol puts head {of.head!r} on the "
                "features"
            )
        return None
    if (kind in BELOW and not trains) or (does is None and asked == "scratch"):
        return None
    if asked == "adapted" and does == "scratch" and kind == "baseline":
        return None
    remedy = "" if trains else "; as a floor (config.kind) it may stand beside them"
    return f"it {said}, and the protocol asks {kind} for adaptation {asked!r}{remedy}"
