"""A small BERT with exits, texts for it, and transformers' network of its shape and weights."""

import torch
from torch import nn

from models.bert_exits import BertExits
from tests.made import settings_of

TINY = {
    "num_layers": 3,
    "hidden_dim": 16,
    "num_heads": 2,
    "mlp_dim": 24,
    "vocab_size": 30,
    "max_positions": 12,
}


def tiny(num_classes=3, size=12, seed=0, **changed):
    torch.manual_seed(seed)
    return BertExits.from_settings(settings_of("bert", **TINY | changed), num_classes, size)


def texts(batch=4, length=9, seed=0):
    """Tokens [B, 2, l] of texts of different lengths, the first of the full one, two segments."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 30, (batch, length), generator=generator)
    lengths = torch.tensor([length, *torch.randint(3, length, (batch - 1,), generator=generator)])
    places = torch.arange(length)
    here = places < lengths[:, None]
    segments = here & (places >= lengths[:, None] // 2)
    return torch.stack([ids * here, segments.long()], 1)


def shuffled(net):
    """Biases and norms off their first values, at which some of them could be exchanged."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def theirs_of(net):
    """transformers' BertModel with the weights of a network of TINY's shape."""
    import transformers  # optional

    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=12, hidden_dropout_prob=net.dropout.p,
        attention_probs_dropout_prob=net.dropout.p,
    )  # fmt: skip
    model = transformers.BertModel(config)
    state = net.state_dict()
    model.load_state_dict({n: v for n, v in state.items() if not n.startswith(("poolers", "head"))})
    return model


def trunk_state(net):
    return {n: v for n, v in net.state_dict().items() if not n.startswith(("poolers", "heads"))}
