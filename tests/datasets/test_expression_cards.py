"""The data cards of the expression sets: drafts of protocols are valid and fit the builders."""

from __future__ import annotations

import json
import re

import pytest

from facebench import protocol, schemes
from facebench.data import source

SETS = ("affectnet", "ck_plus", "expression_folder", "expw", "ferplus", "raf_db")


@pytest.mark.parametrize("name", SETS)
def test_the_draft_of_a_card(space, name):
    ws = space(name)
    card = (ws.datasets / name / "README.md").read_text()
    (draft,) = re.findall(r"```json\n(.*?)\n```", card, re.DOTALL)
    made = protocol.parse(json.loads(draft), f"the card of {name}", allow_draft=True)
    assert made.dataset["name"] == name
    assert made.dataset["config"] in source.configs(ws, name)
    assert made.dataset["version"] == str(source.builder(ws, name).VERSION)
    assert made.id in card
    known = set(schemes.EXPRESSION_ORDERS.get(name, schemes.EXPRESSIONS))
    assert set(made.evaluation.get("classes", ())) <= known
    assert known <= set(schemes.EXPRESSIONS)


@pytest.mark.parametrize("name", SETS)
def test_a_card_names_every_config(space, name):
    ws = space(name)
    card = (ws.datasets / name / "README.md").read_text()
    for config in source.configs(ws, name):
        assert f"`{re.sub('-fold[0-9]+$', '', config)}`" in card
    assert (ws.datasets / name / "CITATIONS.bib").read_text().strip()
    assert (ws.datasets / name / "TAGS.txt").read_text().startswith("content.data-type.image")
