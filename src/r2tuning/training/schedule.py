"""The learning rate of every step."""

from r2tuning.training.config import OptimizerConfig


def learning_rate(step: int, epoch: int, config: OptimizerConfig) -> float:
    """Linear warm-up, then steps down at the starts of epochs.

    Args:
        step: Number of the step in the whole run, from 0.
        epoch: Number of its epoch, from 0.
        config: Rate, warm-up and drops.

    Returns:
        The rate.

    Example:
        >>> config = OptimizerConfig(lr=1.0, warmup_steps=10, warmup_factor=0.1, drop_epochs=(2,), drop_factor=0.5)
        >>> [learning_rate(step, epoch, config) for step, epoch in ((0, 0), (5, 0), (10, 0), (30, 2))]
        [0.1, 0.55, 1.0, 0.5]
    """
    rate = config.lr * config.drop_factor ** sum(epoch >= drop for drop in config.drop_epochs)
    if step >= config.warmup_steps:
        return rate
    return rate * (config.warmup_factor + (1 - config.warmup_factor) * step / config.warmup_steps)
