"""A session with the Python API, cell by cell, as in a notebook. Run it in an empty folder."""

# %% A corpus. Yours comes from joyful_ray.import_corpus("jsonl", "my-data", "corpora/mine").
import joyful_ray
from joyful_ray.corpora.synthetic import synthesize

synthesize("corpora/small", conversations=60, seed=0)
corpus = joyful_ray.open_corpus("corpora/small")
print(corpus)

# %% A job is a file or a dict. Overrides win over it, as --set does on the command line.
job = joyful_ray.load_job({"name": "first", "corpus": "corpora/small"}, {"train.epochs": 2, "cluster.workers": 0})


# %% A callback receives the events of the run.
class PrintEpochs(joyful_ray.Callback):
    def on_epoch_end(self, run, metrics):
        print(f"{run.name}: epoch {metrics.epoch + 1}, weighted F1 {metrics.dev.values['weighted_f1']:.3f}")


# %% Train. The same call continues an interrupted run.
run = joyful_ray.train(job, callbacks=[PrintEpochs()])
print(run)
print(run.to_pandas()[["epoch", "loss/total", "dev/weighted_f1"]])

# %% Score the model on any split of any corpus.
scores = joyful_ray.evaluate(run.bundle, "corpora/small", split="test")
print(scores)
print(scores.confusion())

# %% Predict new conversations: a modality that you do not have is treated as missing.
new = [{"speakers": ["Ann", "Bob"], "text": [[0.1] * 32, [0.3] * 32]}]
print(joyful_ray.predict(run.bundle, new).to_pandas()[["utterance_id", "prediction"]])

# %% One HTML page with tables and charts.
print(joyful_ray.report(run.uri, "report.html"))
