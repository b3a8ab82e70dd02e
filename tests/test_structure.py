import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress import Block, Structure, StructureError
from compress.structure import MODULES, Place

KEPT = st.one_of(
    st.none(), st.just("all"), st.sets(st.integers(0, 40), min_size=1).map(lambda units: tuple(sorted(units)))
)
BLOCK = st.one_of(st.none(), st.builds(Block, ffn1=KEPT, attention=KEPT, conv=KEPT, ffn2=KEPT))
STRUCTURE = st.builds(Structure, st.just("parakeet"), st.lists(BLOCK, min_size=1, max_size=5).map(tuple))
GOOD = {"ffn1": "all", "attention": [0, 2], "conv": None, "ffn2": [3]}


@given(STRUCTURE)
def test_dict_form_survives_json(structure: Structure):
    assert Structure.from_dict(json.loads(json.dumps(structure.to_dict()))) == structure


def test_the_contract_for_scripts(tmp_path):
    structure = Structure.from_dict({"family": "parakeet", "blocks": [None, GOOD]})
    assert structure.blocks == (None, Block("all", (0, 2), None, (3,)))
    structure.save(tmp_path / "structure.json")
    assert json.loads((tmp_path / "structure.json").read_text()) == {"family": "parakeet", "blocks": [None, GOOD]}
    assert Structure.load(tmp_path / "structure.json") == structure


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": [2, 0]}, r"blocks\[0\].attention must be sorted"),
        ({"attention": [1, 1]}, r"blocks\[0\].attention must be sorted without repetitions"),
        ({"ffn1": [-1]}, r"blocks\[0\].ffn1 holds -1"),
        ({"ffn1": [True]}, r"blocks\[0\].ffn1 holds True"),
        ({"ffn1": [1.0]}, r"blocks\[0\].ffn1 holds 1.0"),
        ({"ffn2": []}, r"blocks\[0\].ffn2 is an empty list; write null"),
        ({"conv": "some"}, r'blocks\[0\].conv must be "all", null or a list'),
        ({"conv": 7}, r'blocks\[0\].conv must be "all", null or a list'),
        ({"cnv": "all"}, r"blocks\[0\]: missing keys \[\], unknown keys \['cnv'\]"),
    ],
)
def test_malformed_blocks_are_refused_by_name(change, message):
    with pytest.raises(StructureError, match=message):
        Structure.from_dict({"family": "parakeet", "blocks": [GOOD | change]})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "structure must be an object"),
        ({"blocks": []}, r"missing keys \['family'\]"),
        ({"family": 3, "blocks": []}, "structure.family must be"),
        ({"family": "parakeet", "blocks": "all"}, "structure.blocks must be a list"),
        ({"family": "parakeet", "blocks": [3]}, r"blocks\[0\] must be null or an object"),
    ],
)
def test_malformed_structures_are_refused(data, message):
    with pytest.raises(StructureError, match=message):
        Structure.from_dict(data)


def test_load_names_the_file(tmp_path):
    path = tmp_path / "structure.json"
    path.write_text("{")
    with pytest.raises(StructureError, match=r"structure.json is not valid JSON"):
        Structure.load(path)
    path.write_text('{"family": "parakeet"}')
    with pytest.raises(StructureError, match=r"structure.json: structure: missing keys"):
        Structure.load(path)


def test_check_names_what_does_not_fit():
    units = [dict.fromkeys(MODULES, 4)]
    with pytest.raises(StructureError, match=r"blocks\[0\].conv keeps unit 4, but the model has 4 units"):
        Structure("parakeet", (Block(conv=(1, 4)),)).check("parakeet", units)
    with pytest.raises(StructureError, match="has 2 blocks, but the model has 1"):
        Structure.full("parakeet", 2).check("parakeet", units)
    with pytest.raises(StructureError, match="drops every block"):
        Structure("parakeet", (None,)).check("parakeet", units)
    with pytest.raises(StructureError, match="for family 'lasr', but the model is a 'parakeet'"):
        Structure.full("lasr", 1).check("parakeet", units)


def test_a_front_is_written_only_where_some_of_it_goes():
    blocks = {"family": "parakeet", "blocks": [GOOD]}
    whole = Structure.from_dict({**blocks, "front": {"conv0": "all"}})
    assert whole == Structure.from_dict(blocks)
    assert "front" not in whole.to_dict()
    part = Structure.from_dict({**blocks, "front": {"conv1": [0, 2], "conv0": "all"}})
    assert part.to_dict()["front"] == {"conv1": [0, 2]}
    assert Structure.from_dict(part.to_dict()) == part != whole
    assert (part.of_front("conv0"), part.of_front("conv1")) == ("all", (0, 2))
    assert len({whole, part}) == 2


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ([], "structure.front must be an object"),
        ({"conv0": None}, r"front.conv0 keeps None; at least 2 channels"),
        ({"conv0": []}, r"front.conv0 keeps \[\]; at least 2"),
        ({"conv0": [3]}, r"front.conv0 keeps \[3\]; at least 2"),
        ({"conv0": [2, 1]}, "front.conv0 must be sorted"),
        ({"conv0": "some"}, 'front.conv0 must be "all", null or a list'),
    ],
)
def test_malformed_fronts_are_refused(front, message):
    with pytest.raises(StructureError, match=message):
        Structure.from_dict({"family": "parakeet", "blocks": [GOOD], "front": front})


def test_then_follows_indices_through_both_structures():
    first = Structure("parakeet", (Block((1, 4, 7), "all", None, "all"), None, Block()))
    second = Structure("parakeet", (Block((0, 2), (1,), "all", "all"), None))
    assert first.then(second) == Structure("parakeet", (Block((1, 7), (1,), None, "all"), None, None))
    fronts = Structure("parakeet", (Block(),), {"a": (1, 3, 5), "b": (0, 2)})
    then = fronts.then(Structure("parakeet", (Block(),), {"a": (0, 2), "c": (4, 5)}))
    assert then.front == {"a": (1, 5), "b": (0, 2), "c": (4, 5)}
    with pytest.raises(StructureError, match="leaves 2 blocks"):
        first.then(Structure.full("parakeet", 3))
    with pytest.raises(StructureError, match="Unit 3 is out of range"):
        first.then(Structure("parakeet", (Block((3,)), Block())))


@pytest.mark.parametrize("kept", [(), [2, 1], (-1,), "some", 3])
def test_blocks_written_in_code_are_checked_too(kept):
    with pytest.raises(StructureError, match="ffn1"):
        Block(ffn1=kept)
    assert Block(ffn1=[1, 2]).ffn1 == (1, 2)


def test_a_place_is_known_by_the_number_and_by_the_name_of_its_module() -> None:
    places = [Place(2, number) for number in range(len(MODULES))]
    assert [place.name for place in places] == list(MODULES)
    assert [Place.of(2, name) for name in MODULES] == places


def test_the_blocks_that_survive() -> None:
    assert Structure("parakeet", (Block(), None, Block(conv=None))).survivors == [0, 2]
