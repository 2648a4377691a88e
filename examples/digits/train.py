"""Trains one model on the digits that come inside scikit-learn; logs every epoch, keeps the model."""

import numpy as np
from models import HP, MLP
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import lightex


def build(hp: HP) -> SGDClassifier | MLPClassifier:
    """The model that the config describes."""
    if isinstance(hp.model, MLP):
        return MLPClassifier((hp.model.width,), activation=hp.model.activation, learning_rate_init=hp.lr,
                             batch_size=hp.batch, random_state=hp.seed)  # fmt: skip
    return SGDClassifier("log_loss", alpha=hp.model.alpha, learning_rate="constant", eta0=hp.lr, random_state=hp.seed)


def main(hp: HP) -> None:
    """Train as the config says."""
    data, labels = load_digits(return_X_y=True)
    x, x_val, y, y_val = train_test_split(data / 16.0, labels, test_size=0.25, random_state=0, stratify=labels)
    model = build(hp)
    order = np.random.default_rng(hp.seed)
    with lightex.start_run() as run:
        for epoch in range(hp.epochs):
            for batch in np.array_split(order.permutation(len(x)), len(x) // hp.batch):
                model.partial_fit(x[batch], y[batch], classes=range(10))
            metrics = {
                "train.loss": log_loss(y, model.predict_proba(x)),
                "val.loss": log_loss(y_val, model.predict_proba(x_val)),
                "val.acc": model.score(x_val, y_val),
            }
            run.log(metrics, step=epoch)
            print(f"epoch {epoch}  " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        run.log_model(model)
