"""BERT folders saved by current and old versions of transformers, and errors for bad ones."""

import json

import pytest
import torch

from models.bert_exits import start_from
from models.bert_folder import read_folder
from tests.made import one_line_error
from tests.models.tiny_bert import TINY, shuffled, theirs_of, tiny, trunk_state

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def net():
    return shuffled(tiny(exits="1-2-3", bert_dropout=0.2))


HEADS = {"BertModel": (), "BertForSequenceClassification": ("classifier.",)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, net):
    """Folders that transformers saved, by the class of the model, all with the weights of `net`."""
    model, made = theirs_of(net), {}
    for name in HEADS:
        made[name] = tmp_path_factory.mktemp(name)
        saved = getattr(transformers, name)(model.config)
        (saved if name == "BertModel" else saved.bert).load_state_dict(model.state_dict())
        saved.save_pretrained(made[name])
    return made


@pytest.mark.parametrize("name", HEADS)
def test_a_round_trip(folders, net, name):
    theirs, state = read_folder(folders[name])
    assert theirs == TINY
    assert all(v.dtype == torch.float32 for v in state.values())
    other = tiny(exits="1-2-3", seed=1)
    heads = [head.weight.clone() for head in other.heads]
    assert start_from(other, state, folders[name])
    assert other.training
    for (key, one), two in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        if key.startswith("poolers."):
            key, one = "pooler", net.pooler.dense.get_parameter(key.rsplit(".", 1)[1])
        if not key.startswith("heads."):
            assert torch.equal(one, two), key
    assert all(torch.equal(h.weight, w) for h, w in zip(other.heads, heads, strict=True))


def write(folder, state, config=None, **changed):
    """A folder as older versions of transformers saved it."""
    folder.mkdir(exist_ok=True)
    config = {
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": 16, "num_hidden_layers": 3,
        "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 30,
        "max_position_embeddings": 12,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | changed))
    if state is not None:
        torch.save(state, folder / "pytorch_model.bin")
    return folder


def test_an_old_file(net, tmp_path):
    """Other names for the norms' weights, numbers of positions, heads on top, half precision."""
    old = {}
    for name, value in trunk_state(net).items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old["bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = value.half()
    old["bert.embeddings.position_ids"] = torch.arange(12)[None]
    old |= {"cls.predictions.bias": torch.zeros(30), "cls.seq_relationship.bias": torch.zeros(2)}
    folder = write(tmp_path / "old", old, pad_token_id=None, position_embedding_type="absolute")
    theirs, state = read_folder(folder)
    assert theirs == TINY
    assert state.keys() == trunk_state(net).keys()
    assert all(torch.equal(v, trunk_state(net)[n].half().float()) for n, v in state.items())


def test_a_file_without_a_pooler(net, tmp_path):
    state = {n: v for n, v in trunk_state(net).items() if not n.startswith("pooler.")}
    _, state = read_folder(write(tmp_path / "words", state))
    other = tiny(exits="2-3", seed=2)
    before = [other.pooler.dense.weight.clone(), other.poolers[0].dense.weight.clone()]
    assert not start_from(other, state, tmp_path)
    assert torch.equal(other.pooler.dense.weight, before[0])
    assert torch.equal(other.poolers[0].dense.weight, before[1])
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(other.get_parameter(word), net.get_parameter(word))


def without(state, name):
    return {n: v for n, v in state.items() if n != name}


WORDS, POOLER = "embeddings.word_embeddings.weight", "pooler.dense.bias"


@pytest.mark.parametrize(
    ("state", "config", "message"),
    [
        (lambda s: s, {"model_type": "roberta"}, "model_type is 'roberta'"),
        (lambda s: s, {"hidden_act": "relu"}, "hidden_act is 'relu': only 'gelu'"),
        (lambda s: s, {"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05"),
        (lambda s: s, {"position_embedding_type": "relative_key"}, "position_embedding_type is 'r"),
        (lambda s: s, {"type_vocab_size": 1}, "type_vocab_size is 1"),
        (lambda s: s, {"pad_token_id": 1}, "pad_token_id is 1"),
        (lambda s: s, {"is_decoder": True}, "is_decoder is True"),
        (lambda s: s, {"hidden_size": "16"}, "hidden_size is '16': give a whole number from 1"),
        (
            lambda s: s,
            {"num_attention_heads": 3},
            "hidden_size 16 is not a multiple of num_attention_heads 3",
        ),
        (lambda s: s, {"num_hidden_layers": 2}, "encoder.layer.2."),
        (lambda s: s, {"vocab_size": 31}, "weight is [30, 16], not [31, 16]"),
        (lambda s: without(s, WORDS), {}, f"{WORDS} is missing"),
        (lambda s: without(s, POOLER), {}, f"{POOLER} is missing"),
        (lambda s: {"classifier.bias": s[POOLER]}, {}, "is missing"),
        (lambda s: [s[POOLER]], {}, "cannot be read"),
        (lambda s: {"step": 3}, {}, "cannot be read"),
        (lambda s: None, {}, "no model.safetensors and no pytorch_model.bin"),
    ],
)
def test_bad_folders(net, tmp_path, state, config, message):
    folder = write(tmp_path / "folder", state(trunk_state(net)), **config)
    with one_line_error(message, start=str(folder)):
        read_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00 no such file"])
def test_unreadable_files(net, tmp_path, name, content):
    folder = write(tmp_path / "folder", trunk_state(net))
    (folder / name).write_bytes(content)
    with one_line_error("not JSON" if "json" in name else "be read", start=str(folder / name)):
        read_folder(folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"config.json cannot be read \(No such file"):
        read_folder(tmp_path / "none")


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


def test_files_hold_weights_only(net, tmp_path, capsys):
    folder = write(tmp_path / "evil", trunk_state(net) | {"x": Evil()})
    with pytest.raises(ValueError, match="cannot be read"):
        read_folder(folder)
    assert capsys.readouterr().out == ""


def test_a_start_that_does_not_fit(net, tmp_path):
    state = trunk_state(net)
    for bad, message in (
        (without(state, WORDS), f"{tmp_path}: .*{WORDS} is missing"),
        (state | {WORDS: state[WORDS] * float("nan")}, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            start_from(tiny(), bad, tmp_path)
    with pytest.raises(ValueError, match=r"is \[30, 16\], not \[40, 16\]"):
        start_from(tiny(vocab_size=40), state, tmp_path)
