"""The code that trains deep linear networks: what the fingerprint of every table made from them begins with."""

from spectral_dynamics import networks, problems

DEEP_LINEAR = [
    problems.DeepLinear,
    networks._train_deep_linear,
    networks._initial_deep_linear,
    networks._sampler,
    networks._deep_linear_gradients,
    networks._deep_linear_features,
    networks._deep_linear_moves,
    networks._descend,
    networks._add_outer,
]
