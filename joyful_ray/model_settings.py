"""The `model` section of a job: the parts of the model, and how large they are."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from joyful_ray.components import ComponentPath
from joyful_ray.sections import ComponentSection, Section

Preset = Literal["joyful", "paper", "released"]
PRESETS: tuple[str, ...] = get_args(Preset)


class NgramsConfig(Section):
    """Trained embeddings of word n-grams, appended to the text vectors if `data.word_ngrams` is not 0."""

    width: int = Field(64, ge=1)
    """Width of the embedding of an n-gram."""
    dropout: float = Field(0.5, ge=0.0, lt=1.0)
    """Share of the n-grams that is left out in training."""


class FusionConfig(ComponentSection):
    """Fusion of the modalities' vectors into one vector per utterance (JOYFUL, section 3.3)."""

    role: ClassVar[str] = "fusion"

    kind: Literal["dual-branch", "auto-fusion", "concatenation"] | ComponentPath = "dual-branch"
    """`dual-branch`: the paper's fusion. `auto-fusion`: the two auto-encoders of the released code. `concatenation`: no
    fusion model. `my_package.module:Class`: a fusion of your own."""
    global_branch: bool = True
    """Use the contextual branch (B1 in the paper); with `auto-fusion`, the auto-encoder over all modalities."""
    specific_branch: bool = True
    """Use the branch with the shared trainable basis (B2 in the paper); with `auto-fusion`, the auto-encoder over each
    modality mixed with itself."""
    global_width: int | None = Field(None, ge=1)
    """Width of each modality in the contextual branch; null keeps each modality's own width, as in the paper."""
    global_layers: int = Field(2, ge=1)
    """Number of transformer layers in the contextual branch."""
    global_heads: int = Field(10, ge=1)
    """Largest number of attention heads in the contextual branch; the largest divisor of the width up to this number is
    used."""
    global_feedforward: int = Field(2048, ge=1)
    """Width of the feed-forward layers in the contextual branch."""
    specific_width: int = Field(460, ge=1)
    """Width to which the specific branch maps each modality."""
    basis_vectors: int = Field(32, ge=1)
    """Number of vectors in the shared trainable basis (`dual-branch`)."""
    similarity: Literal["dot", "cosine"] = "dot"
    """How the specific branch compares a modality with the basis vectors: scaled dot product, or cosine
    (`dual-branch`)."""
    topic_rate: float = Field(0.2, ge=0.0)
    """Growth rate per utterance of the exponential weights in the topic vector (eta in the paper); 0 weighs all earlier
    utterances equally."""
    bottleneck: int = Field(512, ge=1)
    """Width of each auto-encoder's code (`auto-fusion`)."""
    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    """Dropout in the transformer of the contextual branch."""


class ContextConfig(ComponentSection):
    """Conversation context: how an utterance's vector takes in the rest of its conversation."""

    role: ClassVar[str] = "context"

    kind: Literal["transformer", "gru", "none", "identity"] | ComponentPath = "transformer"
    """`transformer` or `gru`: over the whole conversation. `none`: a linear map of each utterance by itself.
    `identity`: fused vectors enter the graph unchanged, as in the paper. `my_package.module:Class`: your own."""
    width: int = Field(100, ge=1)
    """Width of the vectors that enter the graph; `identity` ignores it."""
    hidden: int | None = Field(None, ge=1)
    """Width inside the transformer, or of each direction of the GRU; null means the width of the fused vectors
    (`transformer`) or `width` (`gru`)."""
    layers: int = Field(2, ge=1)
    """Number of transformer or GRU layers."""
    heads: int = Field(8, ge=1)
    """Largest number of attention heads; the largest divisor of the width up to this number is used (`transformer`)."""
    feedforward: int = Field(2048, ge=1)
    """Width of the feed-forward layers (`transformer`)."""
    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    """Dropout in the transformer, or on the input and output of the GRU and between its layers."""
    speakers: Literal["none", "flag", "party-state"] = "none"
    """What the context knows of speakers: nothing; whether the speaker is the same as before (`flag`); or a second
    recurrent context over each speaker's own utterances, added to the first (`party-state`)."""
    copied_layers: bool = False
    """Start all transformer layers with the same weights, as PyTorch's `nn.TransformerEncoder` and the released code do
    (`transformer`)."""
    padding_mask: bool = True
    """Hide padding from attention (`transformer`); false attends to padding, as the released code does."""


class EncoderConfig(ComponentSection):
    """The graph encoder."""

    role: ClassVar[str] = "encoder"

    kind: Literal["relational-transformer", "gcn", "relational-attention", "none"] | ComponentPath = (
        "relational-transformer"
    )
    """`relational-transformer`: relational GCN, then graph transformer, as in the released code. `gcn`: the paper's
    encoder. `relational-attention`: attention with a trained vector per relation. `none`: no graph.
    `my_package.module:Class`: your own."""
    width: int | None = Field(100, ge=1)
    """Width of a layer, or of each attention head; null means the width of the input, as in the paper."""
    layers: int = Field(1, ge=1)
    """Number of graph layers; with `relational-transformer`, of relational convolutions before the one transformer
    layer."""
    heads: int = Field(4, ge=1)
    """Number of attention heads; `gcn` has none."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout on the output of the encoder. What the contrast compares has none, so that views differ only by their
    augmentations."""
    normalisation: Literal["none", "layer", "batch"] = "layer"
    """Normalisation of a layer's output: `layer`, `batch` (over the micro-batch) or `none`."""
    residual: bool = False
    """Add a layer's input to its output if the widths are equal (`gcn` and `relational-attention`)."""
    operators: Literal["fast", "pyg"] = "fast"
    """`fast`: tensor operations of this package. `pyg`: PyTorch Geometric's operators, against which the fast ones are
    tested."""


class ClassifierConfig(Section):
    """The classifier: from an encoded utterance to one score per label."""

    hidden: int = Field(100, ge=1)
    """Width of the hidden layer."""
    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    """Dropout after the hidden layer."""
    skip_graph: bool = False
    """Also give the classifier the vector that entered the graph."""


class ModelConfig(Section):
    """Which model is trained, and how large it is."""

    preset: Preset = "joyful"
    """Which set of defaults the job starts from: `joyful` (recommended), `paper` (the method as the paper describes it)
    or `released` (the authors' code)."""
    missing_embeddings: Literal["learned", "zero"] = "learned"
    """What replaces missing cells and modalities: a trained embedding per modality, or zeros."""
    causal: bool = False
    """Let no utterance see a later one: a forward recurrent context, causal attention, a graph with edges from the past
    only (`graph.window_future` counts as 0), and augmentations that add no edge from the future."""
    projection: int | None = Field(None, ge=1)
    """Width of a head with one hidden layer between the encoder and the contrast, which is not used otherwise; null
    contrasts the encoder's embeddings."""
    unused_layers: bool = False
    """Build the layers that the released code creates and never uses, so that the number of parameters is the same."""
    modality_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Probability that, in training, an utterance's modality is treated as missing."""
    feature_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout on the input features."""
    ngrams: NgramsConfig = NgramsConfig()
    fusion: FusionConfig = FusionConfig()
    context: ContextConfig = ContextConfig()
    encoder: EncoderConfig = EncoderConfig()
    classifier: ClassifierConfig = ClassifierConfig()

    @property
    def attends_to_padding(self) -> bool:
        """Whether the context attends to padding, so that scores depend on the longest conversation of a batch."""
        return self.context.kind == "transformer" and not self.context.padding_mask and not self.causal
