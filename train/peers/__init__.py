"""Other methods under the same protocol, so that a table of them is a comparison."""

from edgepain.train.peers.base import PEERS, Inputs, Peer, open_peer, peer_names, register

__all__ = ["PEERS", "Inputs", "Peer", "open_peer", "peer_names", "register"]
