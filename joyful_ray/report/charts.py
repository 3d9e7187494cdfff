"""What charts share: colours, layout, and embedding into a page."""

from __future__ import annotations

import hashlib
from typing import Any

import plotly.graph_objects as go
import plotly.io

COLOURS = {"finished": "#2563eb", "stopped": "#9ca3af", "failed": "#dc2626", "running": "#d97706", "best": "#059669"}
CYCLE = ["#2563eb", "#d97706", "#059669", "#7c3aed", "#dc2626", "#0891b2", "#be185d", "#4d7c0f"]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
BAND = "rgba(37, 99, 235, 0.15)"


def figure(*, height: int = 380, **layout: Any) -> go.Figure:
    """An empty figure in the style of the page."""
    look: dict[str, Any] = {
        "template": "plotly_white",
        "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
        "font": {"family": FONT, "size": 13, "color": "#1f2937"},
        "colorway": CYCLE,
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    }
    found = go.Figure()
    found.update_layout(height=height, **look | layout)
    return found


def piece(found: go.Figure) -> str:
    """A figure as HTML for a page that has plotly.js. It fills the window; equal figures give equal text."""
    name = f"figure-{hashlib.sha256(found.to_json().encode()).hexdigest()[:16]}"
    return plotly.io.to_html(
        found,
        include_plotlyjs=False,
        full_html=False,
        div_id=name,
        default_width="100%",
        config={"responsive": True, "displayModeBar": False},
    )
