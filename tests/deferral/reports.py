"""Running the report in tests: made-up files, the command, and what it wrote."""

import json
from html.parser import HTMLParser

import numpy as np

from deferral.report import __main__ as report

MAIN, FEW = (1.25, 0.2), ["--draws", "60", "--cost_e", "0.2"]


def change(path, seed=None, classes=None, rejectors=None, estimators=()):
    """Edit a predictions file. `rejectors` are the rows that stay; a seed also moves the logits.

    estimators: [(name, estimates [2, N])].
    """
    arrays = dict(np.load(path))
    settings = json.loads(str(arrays["settings"]))
    if seed is not None:
        settings["seed"] = seed
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 0.4, arrays["stage_logits"].shape)
        arrays["stage_logits"] = (arrays["stage_logits"] + noise).astype(np.float32)
    if classes is not None:
        settings["classes"] = classes
    if rejectors is not None:
        settings["rejectors"] = [settings["rejectors"][row] for row in rejectors]
        arrays["scores"] = arrays["scores"][rejectors]
        arrays["loss_rejector"] = arrays["loss_rejector"][:, rejectors]
    if estimators:
        settings["estimators"] = [
            {"name": name, "about": f"about {name}", "parameters": 1234, "multiply_adds": 5678}
            for name, _ in estimators
        ]
        arrays["estimates"] = np.stack([e for _, e in estimators]).astype(np.float32)
    np.savez(path, **arrays | {"settings": json.dumps(settings)})


def run(*argv):
    report.main([str(a) for a in argv])


def read(path):
    return json.loads(path.with_suffix(".json").read_text()), path.read_text()


class Page(HTMLParser):
    """Checks that tags nest, collects what may lead outside and the text of cells."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.tags, self.text = [], [], [], set(), []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "xlink:href"):
                self.links.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
