"""The sections of a job: every setting with its range and its default.

`graph_settings.py`, `search_settings.py` and `transfer_settings.py` have the sections of those names; `config.py` reads
and checks them all.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field, field_validator

from joyful_ray.components import ComponentPath
from joyful_ray.schema import Modality
from joyful_ray.sections import ComponentSection, Section, TermConfig

Preset = Literal["joyful", "paper", "released"]
PRESETS: tuple[str, ...] = get_args(Preset)


class DataConfig(Section):
    """How a corpus reaches the workers."""

    ingest: Literal["auto", "resident", "streaming"] = "auto"
    """`resident`: read the corpus once into Ray's object store. `streaming`: read it from storage in every epoch, with
    bounded memory. `auto`: resident if it fits, otherwise streaming."""
    modalities: list[Modality] | None = None
    """Modalities that the model uses; null means all that the corpus has."""
    normalise: bool = True
    """Centre and scale every feature with the mean and standard deviation of `train`."""
    word_ngrams: int = Field(0, ge=0, le=5)
    """Length in words of the longest n-gram that the model reads from `texts`, in addition to the text vectors; 0 reads
    no texts."""
    word_buckets: int = Field(16384, ge=1)
    """Number of hash buckets for n-grams; n-grams in the same bucket share one embedding."""
    dev_fraction: float = Field(0.1, gt=0.0, lt=1.0)
    """Share of the `train` conversations that become `dev` if the corpus has no `dev` split."""
    streaming_buffer_conversations: int = Field(1024, ge=1)
    """Number of conversations that a streaming worker holds and shuffles at a time."""

    @field_validator("modalities")
    @classmethod
    def _not_empty(cls, value: list[Modality] | None) -> list[Modality] | None:
        if value is not None and (not value or len(set(value)) != len(value)):
            raise ValueError("name each modality once, and at least one")
        return value


class NgramsConfig(Section):
    """Trained embeddings of word n-grams, appended to the text vectors if `data.word_ngrams` is not 0."""

    width: int = Field(64, ge=1)
    """Width of the embedding of an n-gram."""
    dropout: float = Field(0.5, ge=0.0, lt=1.0)
    """Share of the n-grams that is left out in training."""


class FusionConfig(ComponentSection):
    """Fusion of the modalities' vectors into one vector per utterance (JOYFUL, section 3.1)."""

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
    """Dropout after each graph layer; with `relational-transformer`, after the transformer layer."""
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


class ObjectiveConfig(Section):
    """The terms of the joint loss, and their weights."""

    fusion_weight: float = Field(0.06, ge=0.0)
    """Weight of each fusion term: smoothing and the two reconstructions (alpha in the paper); 0 switches them off."""
    contrast_weight: float = Field(0.3, ge=0.0)
    """Weight of the contrastive term (beta in the paper); 0 switches it off."""
    smoothing: bool = True
    """Use the smoothing term, which keeps an utterance's contextual vector close to the topic so far (`dual-branch`
    only)."""
    global_reconstruction: bool = True
    """Use the reconstruction term of the global branch."""
    specific_reconstruction: bool = True
    """Use the reconstruction term of the specific branch."""
    reconstruction_scope: Literal["all", "last-conversation"] = "all"
    """`all`: mean over all utterances. `last-conversation`: sum over the last conversation of each micro-batch, as in
    the released code."""
    contrast_pairs: Literal["views", "original"] = "views"
    """`views`: contrast the first view with the second. `original`: contrast the unaugmented graph with each view, as
    in the released code."""
    inter_view: bool = True
    """Use other utterances of the other view as negatives."""
    intra_view: bool = True
    """Use other utterances of the same view as negatives."""
    self_negative: bool = False
    """Count an utterance itself among the negatives of its own view, as the released code and the paper's formula do;
    the paper's text leaves it out."""
    joint_denominator: bool = False
    """Compute one InfoNCE with the negatives of both views in its denominator, as in the released code, instead of two
    separate terms."""
    temperature: float = Field(1.0, gt=0.0)
    """Temperature of the contrast: cosine similarities are divided by it."""
    negatives: Literal["conversation", "micro-batch"] = "conversation"
    """Where negatives come from: the same conversation, or the whole micro-batch."""
    class_weighting: float = Field(0.0, ge=0.0, le=1.0)
    """Exponent of the class weights, which are (1 / frequency) to this power; 0 gives equal weights, 1 balances fully
    (single-label only)."""
    focal_gamma: float = Field(0.0, ge=0.0)
    """Exponent of the focal loss; 0 is plain cross-entropy (single-label only)."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of each target that is spread evenly over all labels (single-label only)."""
    extra_terms: dict[str, TermConfig] = {}
    """Terms of your own, by a name of your choice: each with `kind` (an import path), `weight` and `options`."""


class TrainConfig(Section):
    """How the model is trained: duration, optimizer, precision and checkpoints."""

    epochs: int = Field(50, ge=1)
    """Largest number of epochs."""
    patience: int = Field(10, ge=1)
    """Number of epochs without a better dev score after which the run stops."""
    batch_conversations: int = Field(32, ge=1)
    """Number of conversations in one optimizer step, over all workers."""
    micro_batches: int = Field(2, ge=1)
    """Number of parts into which a step is split; at most this many workers have work."""
    optimizer: Literal["adam", "adamw"] = "adamw"
    """Adam, or AdamW with decoupled weight decay."""
    learning_rate: float = Field(1e-3, gt=0.0)
    """Learning rate after the warmup."""
    weight_decay: float = Field(1e-2, ge=0.0)
    """Weight decay of the optimizer."""
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    """`constant`, `cosine` (down to zero over `epochs`) or `plateau` (a tenth each time the dev loss has not fallen for
    more than 8 epochs)."""
    warmup_epochs: float = Field(1.0, ge=0.0)
    """Epochs in which the learning rate rises linearly from zero; fractions are allowed."""
    gradient_clip: float | None = Field(1.0, gt=0.0)
    """Largest norm of the whole gradient; null means no clipping."""
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay per step of the exponential moving average (EMA) of the weights, which is evaluated and kept in place of
    the weights; 0 means no EMA."""
    stages: Literal["joint", "two-phase"] = "joint"
    """`joint`: train everything at once. `two-phase`: train only the fusion for `fusion_epochs`, then freeze it and
    train the rest."""
    fusion_epochs: int = Field(5, ge=1)
    """Epochs of the first stage of `two-phase`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass: `fp32`, or `bf16` (autocast)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of a run without Ray (`cluster.workers: 0`); `auto` is the GPU if there is one. With Ray,
    `cluster.gpus_per_worker` decides."""
    evaluation_utterances: int = Field(512, ge=1)
    """Approximate number of utterances in an evaluation batch."""
    keep_checkpoints: int = Field(1, ge=1)
    """Number of latest checkpoints kept in addition to the selected one."""
    diagnostics: bool = True
    """Log each epoch's gradient norms and cosines by term, over-smoothing, and alignment and uniformity of the
    views."""


class ClusterConfig(Section):
    """Resources that a run requests from Ray."""

    workers: int = Field(2, ge=0)
    """Number of Ray Train workers; 0 trains in the current process without Ray."""
    cpus_per_worker: float = Field(1.0, gt=0.0)
    """CPU cores per worker; without Ray, cores of the process."""
    gpus_per_worker: float = Field(0.0, ge=0.0)
    """GPUs per worker; 0 trains on CPUs."""
    max_failures: int = Field(2, ge=-1)
    """How often a run restarts after losing a worker or a node before it gives up; -1 means without limit."""
    collective_timeout_s: float = Field(120.0, gt=0.0)
    """Seconds that a worker waits for the others in a collective operation before it fails."""
    max_hours: float | None = Field(None, gt=0.0)
    """Hours after which a command stops: it starts no epoch that would end later, judged by the longest epoch so far.
    The same command continues the run; null means no limit."""
    address: str | None = None
    """Address of the Ray cluster to join; null joins the one in RAY_ADDRESS, as in a submitted job, or else starts a
    local one."""
