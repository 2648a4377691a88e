"""Two families of models, as plain dataclasses."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Linear:
    """Logistic regression, trained by stochastic gradient descent."""

    alpha: float = 1e-4  # strength of the L2 penalty


@dataclass(frozen=True)
class MLP:
    """A perceptron with one hidden layer."""

    width: int = 32
    activation: Literal["relu", "tanh"] = "relu"


@dataclass(frozen=True)
class HP:
    """What a training is given: the model is one of two."""

    model: Linear | MLP = Linear()
    lr: float = 1e-2
    epochs: int = 12
    batch: int = 64
    seed: int = 0
