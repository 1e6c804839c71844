"""The network of the paper: uni-modal streams (FCN, ALSTM, Transformer block) and their fusion."""

from edgepain.train.models.alstm import ALSTM, elish
from edgepain.train.models.crossmod import CrossModFusion, CrossModTransformer, UnimodalStream, assemble
from edgepain.train.models.fcn import FCN
from edgepain.train.models.transformer import Attention, CrossFusion, Encoder, TransformerBlock

__all__ = [
    "ALSTM",
    "FCN",
    "Attention",
    "CrossFusion",
    "CrossModFusion",
    "CrossModTransformer",
    "Encoder",
    "TransformerBlock",
    "UnimodalStream",
    "assemble",
    "elish",
]
