"""The sections of a job: every setting with its range and its default; `config.py` reads and checks them."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from joyful_ray.schema import Modality

Preset = Literal["joyful", "paper", "released"]
PRESETS: tuple[str, ...] = get_args(Preset)


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class DataConfig(Section):
    """How a corpus reaches the workers."""

    ingest: Literal["auto", "resident", "streaming"] = "auto"
    """`resident`: read once into the object store; `streaming`: read every epoch with bounded memory; `auto`:
    resident where it fits."""
    modalities: list[Modality] | None = None
    """Modalities to use; all that the corpus has where this is null."""
    normalise: bool = True
    """Centre and scale every feature with the statistics of `train`."""
    word_ngrams: int = Field(0, ge=0, le=5)
    """Longest n-gram of words that the model reads from `texts`, beside the vectors; 0 reads no texts."""
    word_buckets: int = Field(16384, ge=1)
    """Ids that n-grams are hashed to."""
    dev_fraction: float = Field(0.1, gt=0.0, lt=1.0)
    """Share of `train` conversations cut off as `dev` where the corpus has none."""
    streaming_buffer_conversations: int = Field(1024, ge=1)
    """Conversations that a streaming worker shuffles among."""

    @field_validator("modalities")
    @classmethod
    def _not_empty(cls, value: list[Modality] | None) -> list[Modality] | None:
        if value is not None and (not value or len(set(value)) != len(value)):
            raise ValueError("name each modality once, and at least one")
        return value


class NgramsConfig(Section):
    """Trained vectors of word n-grams, joined to the text vectors where `data.word_ngrams` is not 0."""

    width: int = Field(64, ge=1)
    dropout: float = Field(0.5, ge=0.0, lt=1.0)
    """Share of the n-grams that is left out in training."""


class FusionConfig(Section):
    """From the vectors of the modalities to one vector an utterance (JOYFUL, section 3.1)."""

    kind: Literal["dual-branch", "auto-fusion", "concatenation"] = "dual-branch"
    """`dual-branch`: the paper's; `auto-fusion`: the released code's two auto-encoders; `concatenation`: no fusion
    model."""
    global_branch: bool = True
    """The contextual branch (B1)."""
    specific_branch: bool = True
    """The branch with the shared trainable basis (B2)."""
    global_width: int | None = Field(None, ge=1)
    """Width of each modality in the contextual branch; null keeps each modality's own width, as the paper does."""
    global_layers: int = Field(2, ge=1)
    global_heads: int = Field(10, ge=1)
    """Heads at most; the largest divisor of the width that is not greater is taken."""
    global_feedforward: int = Field(2048, ge=1)
    specific_width: int = Field(460, ge=1)
    basis_vectors: int = Field(32, ge=1)
    similarity: Literal["dot", "cosine"] = "dot"
    topic_rate: float = Field(0.2, ge=0.0)
    """Growth rate of the topic vector's exponential weights (eta)."""
    bottleneck: int = Field(512, ge=1)
    """Width of each auto-encoder's code (`auto-fusion`)."""
    dropout: float = Field(0.3, ge=0.0, lt=1.0)


class ContextConfig(Section):
    """From single utterances to utterances that know their conversation."""

    kind: Literal["transformer", "gru", "none", "identity"] = "transformer"
    """`none`: a linear map of each utterance; `identity`: fused vectors enter the graph as they are, as in the
    paper."""
    width: int = Field(100, ge=1)
    """Width of what leaves the context, and enters the graph."""
    hidden: int | None = Field(None, ge=1)
    """Width inside; null keeps that of the fusion."""
    layers: int = Field(2, ge=1)
    heads: int = Field(8, ge=1)
    feedforward: int = Field(2048, ge=1)
    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    padding_mask: bool = True
    """False attends to padding, as the released code does."""


class EncoderConfig(Section):
    """The graph encoder."""

    kind: Literal["relational-transformer", "gcn", "relational-attention", "none"] = "relational-transformer"
    """`relational-transformer`: relational GCN, then graph transformer; `gcn`: the paper's; `relational-attention`:
    attention with a bias a relation."""
    width: int | None = Field(100, ge=1)
    """Width of a layer, or of each head; null is that of what enters, as in the paper."""
    layers: int = Field(1, ge=1)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    normalisation: Literal["none", "layer", "batch"] = "layer"
    residual: bool = False
    operators: Literal["fast", "pyg"] = "fast"
    """`fast`: own tensor operations; `pyg`: PyTorch Geometric's, which they are tested against."""


class ClassifierConfig(Section):
    """From the encoded utterance to scores a label."""

    hidden: int = Field(100, ge=1)
    dropout: float = Field(0.3, ge=0.0, lt=1.0)
    skip_graph: bool = False
    """Give the classifier the vector that entered the graph as well."""


class ModelConfig(Section):
    """Which model, and how large."""

    preset: Preset = "joyful"
    missing_embeddings: Literal["learned", "zero"] = "learned"
    """What takes the place of cells and modalities that are not present."""
    unused_layers: bool = False
    """Build the layers that the released code builds and never uses, for its count of parameters."""
    modality_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Probability that an utterance's modality is replaced by its learned stand-in during training."""
    feature_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout on the features themselves."""
    ngrams: NgramsConfig = NgramsConfig()
    fusion: FusionConfig = FusionConfig()
    context: ContextConfig = ContextConfig()
    encoder: EncoderConfig = EncoderConfig()
    classifier: ClassifierConfig = ClassifierConfig()


class GraphConfig(Section):
    """Which utterances a graph connects, and how."""

    window_past: int | None = Field(8, ge=0)
    """Utterances before; null is all of them."""
    window_future: int | None = Field(8, ge=0)
    """Utterances after; 0 is causal, null is all of them."""
    relations: Literal["same-other", "speaker-pairs"] = "same-other"
    """`same-other`: same or other speaker, and direction; `speaker-pairs`: the ordered pair of speakers, and
    direction."""


class ViewConfig(Section):
    """One augmented view of the graph (JOYFUL, section 3.2)."""

    feature_ratio: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the features that is set to zero."""
    feature_mask: Literal["dimension", "element"] = "dimension"
    """`dimension`: the same dimensions for all utterances of the micro-batch; `element`: each value by itself."""
    edge_ratio: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the edges that is dropped; as many absent ones are added."""
    edge_mode: Literal["perturb", "rewire"] = "perturb"
    """`perturb`: within the conversation; `rewire`: a random other end in the whole micro-batch, as the released
    code does."""
    proximity_ratio: float = Field(0.0, ge=0.0, lt=1.0)
    """Edges added between utterances of high Katz index, as a share of the edges."""
    proximity_threshold: float = Field(0.5, ge=0.0, le=1.0)


class AugmentConfig(Section):
    """The two views, and what is classified."""

    first_view: ViewConfig = ViewConfig(feature_ratio=0.2, edge_ratio=0.2)
    second_view: ViewConfig = ViewConfig(feature_ratio=0.2, edge_ratio=0.2)
    shared_edge_noise: bool = False
    """Both views and the classified graph share one rewired edge list, as the released code does by writing in
    place."""
    classify: Literal["graph", "views"] = "graph"
    """What the classifier sees in training: the encoding of the graph itself, or the sum of the two views (the
    paper's Algorithm 1)."""


class ObjectiveConfig(Section):
    """The terms of the joint loss, and their weights."""

    fusion_weight: float = Field(0.06, ge=0.0)
    """Weight of the fusion terms together (alpha)."""
    contrast_weight: float = Field(0.3, ge=0.0)
    """Weight of the contrast (beta)."""
    smoothing: bool = True
    global_reconstruction: bool = True
    specific_reconstruction: bool = True
    reconstruction_scope: Literal["all", "last-conversation"] = "all"
    """`last-conversation`: only the last of each micro-batch, summed, as the released code does."""
    contrast_pairs: Literal["views", "original"] = "views"
    """`views`: first against second view; `original`: the unmasked graph against each view, as the released code
    does."""
    inter_view: bool = True
    intra_view: bool = True
    joint_denominator: bool = False
    """One InfoNCE with the negatives of both views in its denominator, as the released code has, instead of two
    terms."""
    temperature: float = Field(1.0, gt=0.0)
    negatives: Literal["conversation", "micro-batch"] = "conversation"
    class_weighting: float = Field(0.0, ge=0.0, le=1.0)
    """Class weights are (1 / frequency) to this power; 0 is none, 1 balances fully."""
    focal_gamma: float = Field(0.0, ge=0.0)
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)


class TrainConfig(Section):
    """How long, how fast, and with what arithmetic."""

    epochs: int = Field(50, ge=1)
    patience: int = Field(10, ge=1)
    """Epochs without a better dev score before the run stops."""
    batch_conversations: int = Field(32, ge=1)
    """Conversations of one step, over all workers."""
    micro_batches: int = Field(2, ge=1)
    """Parts of a step; at most this many workers have work."""
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0.0)
    weight_decay: float = Field(1e-2, ge=0.0)
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    """`cosine`: down to zero over `epochs`; `plateau`: a tenth after 8 epochs in which the dev loss did not fall."""
    warmup_epochs: float = Field(1.0, ge=0.0)
    gradient_clip: float | None = Field(1.0, gt=0.0)
    """Largest norm of the whole gradient; null is none."""
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay a step of the averaged weights that are evaluated and kept; 0 is none."""
    stages: Literal["joint", "two-phase"] = "joint"
    """`two-phase`: the fusion alone for `fusion_epochs`, then frozen."""
    fusion_epochs: int = Field(5, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    evaluation_utterances: int = Field(512, ge=1)
    """Utterances of one evaluation batch."""
    keep_checkpoints: int = Field(1, ge=1)
    """Latest checkpoints kept beside the selected one."""
    diagnostics: bool = True
    """Log gradient norms and cosines by term, over-smoothing, alignment and uniformity each epoch."""


class TransferCorpus(Section):
    """A corpus of a transfer table, and what its labels are called in it."""

    corpus: str
    """Path or s3:// URI."""
    label_map: str
    """Path or s3:// URI of a label map to the names that all corpora share."""


class TransferConfig(Section):
    """A transfer table: `trained on` x `tested on`."""

    corpora: dict[str, TransferCorpus] = Field(min_length=1)
    """By the name that the table gives it."""
    train_on: list[list[str]] = Field(min_length=1)
    """A row each: one corpus, with labels of its own, or several, merged in the shared ones."""
    test_on: list[str] = Field(min_length=1)
    """A column each."""

    @model_validator(mode="after")
    def _names_are_known(self) -> TransferConfig:
        for name in [*self.test_on, *(name for row in self.train_on for name in row)]:
            if name not in self.corpora:
                raise ValueError(f"{name} is none of transfer.corpora, which has {', '.join(self.corpora)}")
        if not all(self.train_on) or any(len(set(row)) < len(row) for row in self.train_on):
            raise ValueError("each row of transfer.train_on names a corpus, and none twice")
        return self


class ClusterConfig(Section):
    """What a run asks of Ray."""

    workers: int = Field(2, ge=0)
    """Ray Train workers; 0 runs in this process without Ray."""
    cpus_per_worker: float = Field(1.0, gt=0.0)
    """Cores of a worker, and of a run without Ray."""
    gpus_per_worker: float = Field(0.0, ge=0.0)
    max_failures: int = Field(2, ge=-1)
    """Lost workers or nodes after which the run gives up; -1 never."""
    collective_timeout_s: float = Field(120.0, gt=0.0)
    max_hours: float | None = Field(None, gt=0.0)
    """Hours after which a command stops: it begins no epoch that would end later, by the longest so far. The same
    command goes on from there; null is no limit."""
    address: str | None = None
    """Ray cluster to join; null joins the one that RAY_ADDRESS names, as it does in a submitted job, else starts a
    local one."""
