# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled modules carry no type stubs.)
from importlib import resources

import mujoco
import numpy as np
import pytest

from trmrl.envs.mujoco import _batch

FILES = ["half_cheetah.xml", "ant.xml", "humanoid.xml", "walker2d.xml", "hopper.xml"]


@pytest.mark.parametrize("file", FILES)
def test_model_compiles_silently(file, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)  # MuJoCo appends its warnings to MUJOCO_LOG.TXT here
    xml = resources.files("trmrl.envs.mujoco").joinpath(file).read_text()
    mujoco.MjModel.from_xml_string(xml)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", FILES)
def test_model_is_gymnasiums(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gymnasium = pytest.importorskip("gymnasium")
    xml = resources.files(gymnasium).joinpath(f"envs/mujoco/assets/{file}").read_text()
    theirs = mujoco.MjModel.from_xml_string(xml)
    ours = _batch.load_model(file)
    sizes = lambda model: (model.nq, model.nv, model.nu, model.nbody, model.ngeom, model.njnt)
    assert sizes(ours) == sizes(theirs)
    physical = ["qpos0", "qpos_spring"]
    for prefix, skipped in {
        "body_": ("user",),
        "jnt_": ("user", "group"),
        "dof_": (),
        "geom_": ("user", "rgba", "matid", "group"),
        "actuator_": ("user", "group"),
    }.items():
        skipped = {prefix + name for name in skipped}
        physical += [n for n in dir(ours) if n.startswith(prefix) and n not in skipped]
    physical = [n for n in physical if isinstance(getattr(ours, n), np.ndarray)]
    assert {"body_inertia", "dof_damping", "geom_solimp", "actuator_gear"} <= set(physical)
    for name in physical:
        mine, other = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-12, err_msg=name)
    island = mujoco.mjtDisableBit.mjDSBL_ISLAND.value
    assert ours.opt.disableflags == theirs.opt.disableflags | island
    for name in dir(ours.opt):
        if not name.startswith("_") and name != "disableflags":
            assert np.array_equal(getattr(ours.opt, name), getattr(theirs.opt, name)), name


@pytest.mark.parametrize("file", FILES)
def test_every_motor_is_limited_and_as_strong_either_way(file):
    """So that one number, the upper limit, is what actions are in units of."""
    model = _batch.load_model(file)
    assert model.actuator_ctrllimited.all()
    low, high = model.actuator_ctrlrange.T
    np.testing.assert_array_equal(low, -high)
    assert (high > 0.0).all()
