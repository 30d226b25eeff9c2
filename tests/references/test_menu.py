import pytest

from trmrl.envs import ENVS, make
from trmrl.references import REFERENCES, _measure_of, reference
from trmrl.types import TrmrlError, replace


def test_a_world_is_measured_by_its_own_name_or_by_its_family():
    navi, room = make("grid-navi").spec, make("dark-room").spec
    assert _measure_of(navi) is REFERENCES["grid-navi"]
    assert _measure_of(room) is _measure_of(replace(navi, name="mine")) is REFERENCES["grid"]
    assert _measure_of(make("half-cheetah-dir").spec) is None


def test_every_world_but_the_robots_of_locomotion_has_references():
    for name in ENVS:
        spec = make(name).spec
        assert (_measure_of(spec) is None) == (spec.family in ("locomotion", "rules"))


@pytest.mark.parametrize(
    ("env", "known"),
    [
        ("half-cheetah-vel", ["bandit-n10-k5", "tabular-n10", "grid-navi", "semicircle"]),
        ("half-cheetah-vel+task", ["bandit-n10-k5", "tabular-n10", "grid-navi", "semicircle"]),
        ("bandit-n4-k2+task", ["only for bandit-n4-k2"]),
    ],
)
def test_a_refusal_names_worlds_that_have_references(env, known):
    with pytest.raises(TrmrlError) as refusal:
        reference(env)
    message = str(refusal.value)
    assert f"there are no references for {env!r}" in message
    assert all(name in message for name in known)
    assert "\n" not in message
    assert "ant-dir" not in message
