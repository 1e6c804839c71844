"""Train the staged CrossMod-Transformer: models, dataset readers, stages, protocols, metrics."""
