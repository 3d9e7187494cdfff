"""A fusion of your own: a gate per modality decides how much of it an utterance takes."""

from pydantic import BaseModel, Field
from torch import nn, sigmoid

from joyful_ray.model.interfaces import Fused


class GatedSum(nn.Module):
    """Shapes: (N, W) per modality in, (N, `width`) out."""

    class Settings(BaseModel):
        """Its settings, `model.fusion.options` in a job."""

        width: int = Field(64, ge=1)
        dropout: float = Field(0.1, ge=0.0, lt=1.0)

    def __init__(self, widths, settings):
        super().__init__()
        self.width = settings.width
        self.values = nn.ModuleDict({name: nn.Linear(width, self.width) for name, width in widths.items()})
        self.gates = nn.ModuleDict({name: nn.Linear(width, 1) for name, width in widths.items()})
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, features, layout):
        """Sum the gated modalities of every utterance."""
        parts = [sigmoid(self.gates[name](x)) * self.values[name](x) for name, x in features.items()]
        return Fused(self.dropout(sum(parts)), reconstructions={})
