"""From a training run to a bundle: trace, quantize, verify, write."""
