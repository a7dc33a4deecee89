"""The experiments: training, tracing, decay, the atlas of facts, and the measures of a model."""
