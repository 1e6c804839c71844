"""Dataset readers, each giving the same typed recordings, and a writer of simulated ones."""
