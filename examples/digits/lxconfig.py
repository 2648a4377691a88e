"""Handwritten digits with two families of models. Try: lx plan sweep_all, lx run sweep_all, lx compare."""

from models import HP, MLP, Linear

from lightex import Experiment, Resources, replace, sweep

base = Experiment(name="digits", target="train:main", hp=HP(), resources=Resources(cpus=1), metric="val.acc")

linear = replace(base, {"hp.model": Linear()})
mlp = replace(base, {"hp.model": MLP(), "hp.lr": 1e-3})
wide = MLP(width=128)  # a part: lx run mlp hp.model=wide

linear_grid = sweep(linear, {"hp.model.alpha": [1e-4, 1e-2], "hp.lr": [0.03, 0.01, 0.003]})
mlp_grid = sweep(mlp, {"hp.model.width": [16, 64], "hp.lr": [0.01, 0.001]}, {"hp.model.activation": ["relu", "tanh"]})
sweep_all = linear_grid + mlp_grid
