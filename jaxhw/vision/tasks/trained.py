"""A run opened for prediction: a classifier, or the head that a linear probe chose on its backbone's features."""

from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxhw import metrics
from jaxhw.errors import UserError
from jaxhw.state import Variables
from jaxhw.vision.tasks import classify, linear
from jaxhw.vision.tasks.encoder import Encoder

DEFAULTS = {"classify": classify.default_config, "linear": linear.default_config}


class Predictive(Protocol):
    """A trained function from pictures to logits.

    Attributes:
      names: of the classes, by label.
      image_size: pixels a side.
    """

    names: list[str]
    image_size: int

    def logits(self, variables: Variables, images: jax.Array) -> jax.Array:
        """uint8 images [b, h, w, 3] -> [b, c]; ``variables`` are the checkpoint's."""


class Probe:
    """The head of a linear probe's grid that its validation split chose."""

    def __init__(self, config: ConfigDict, workdir: Path):
        labels = classify.read_labels(workdir)
        self.names, self.image_size = labels["names"], labels["image_size"]
        self.encoder = Encoder(config, self.image_size)
        # What the run chose stands in its results; what it standardised by follows from its features.
        results, features = metrics.results(workdir), linear.read_features(workdir)
        if not results or not features:
            missing = "features.npz" if results else "results.json"
            raise UserError(f"{workdir} has no {missing}: the command that trains the probe writes it when it is done")
        self.mean, self.deviation = linear.standardisation(features["train"], config.standardise)
        grid = linear.grid(config)
        self.head = int(np.abs(grid - np.float32([results["rate"], results["l2"]])).sum(1).argmin())

    def logits(self, variables: Variables, images: jax.Array) -> jax.Array:
        features = self.encoder.features(variables.model_state["backbone"], images)
        head = variables.params["head"]
        return (features - self.mean) / self.deviation @ head["kernel"][self.head] + head["bias"][self.head]


def open_run(workdir: Path) -> tuple[ConfigDict, Predictive]:
    """(a run's config, what it has learnt to predict).

    Raises:
      UserError: it is neither a classification run nor a linear probe, or not finished.
    """
    config = classify.read_config(workdir, DEFAULTS)
    return config, Probe(config, workdir) if config.task == "linear" else classify.Classifier.from_workdir(workdir)
